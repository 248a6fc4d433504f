"""Two hook sites of one model compared: the residual stream after each block, and what each mixer adds to it.

A lens belongs to one site, so this fits one for each, on scenes of the tabletop world.

    python examples/two_sites.py [OUT.png] [SCENES]
"""

import sys
from pathlib import Path

import skimage

from emma_viz import decode, figure, load_model, record
from emma_viz.cli.guard import guarded
from emma_viz.data.tabletop import draw_scene, make_scene
from emma_viz.session import View, fit_ridge

PHOTO = Path(skimage.__file__).parent / "data" / "coffee.png"
SITES = ("resid_post", "mixer_out")


def main(out: str = "two-sites.png", scenes: int = 64) -> None:
    """Fit, decode and draw; print how much of the photograph each site and layer still holds."""
    model = load_model("cobra-pocket")
    fit, heldout = (
        [draw_scene(make_scene(split, index)).image for index in range(count)]
        for split, count in (("train", scenes), ("test", max(8, scenes // 4)))
    )
    trace = record(model, PHOTO, "Describe the image in detail.", sites=SITES)
    for site in SITES:
        lens = fit_ridge(model, fit, heldout=heldout, site=site, fitted_on=f"{scenes} tabletop scenes")
        maps = decode(trace, lens).maps()
        path = Path(out).with_stem(f"{Path(out).stem}-{site}")
        figure(maps, view=View(layers=(0, 5, 11))).savefig(path)
        quality = ", ".join(f"{record.layer}: {record.r2:.2f}" for record in lens.info.quality)
        print(f"{site}: held-out R² by layer {quality}; wrote {path}")


if __name__ == "__main__":
    out, scenes = [*sys.argv[1:3], *("two-sites.png", "64")[len(sys.argv) - 1 :]]
    sys.exit(guarded(lambda: main(out, int(scenes)), program="two_sites.py"))
