"""Measure a trained family and write docs/results.md with its figure, every number of them.

    python -m training.results                          the bundle of the package
    python -m training.results DIR1 DIR2 DIR3           bundles that differ in their seed: intervals over seeds too

A bundle is a folder that `python -m training.train pocket-pair --bundle DIR` writes.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from emma_viz.atomic import write_file
from emma_viz.checkpoints import BUNDLED, LoadedModel, load_model
from emma_viz.cli.guard import guarded
from emma_viz.errors import TrainingError
from emma_viz.lens.files import load_lens
from emma_viz.models.vlm import VLM
from training.encoder import normalise
from training.examination import (
    PHOTOS,
    Examined,
    Material,
    encoder_digest,
    examine,
    images_shown,
    prepare,
)
from training.joint import new_task
from training.recipes import FAMILIES, MEMBERS, family_of
from training.results_numbers import all_numbers
from training.results_page import IMAGE, page
from training.scenes import drawn_scenes
from training.stages import SCALED_BY, commit, read_text_model, text_file

DOCUMENTS = Path(__file__).parent.parent / "docs"
ANSWERS, RETENTION = 500, 150
"""Held-out scenes that questions are asked about, and how many of them are decoded."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A folder of members that share an encoder."""

    folder: Path
    members: tuple[str, ...]
    """Names, in the order of the recipes."""

    @property
    def name(self) -> str:
        """What the page calls it."""
        return "of the package" if self.folder == BUNDLED else self.folder.name

    def encoder(self, member: str) -> Path:
        """The file of the encoder that a member uses."""
        return self.folder / f"{self.description(member)['vision']['backbone_id']}.safetensors"

    def description(self, member: str) -> dict[str, Any]:
        """What the member's config.json says, with its provenance."""
        return json.loads((self.folder / member / "config.json").read_text(encoding="utf-8"))["emma_viz"]

    def seed(self, member: str) -> int:
        """The seed of a member's joint stage."""
        return self.description(member).get("provenance", {}).get("seed", 0)

    def load(self, member: str) -> LoadedModel:
        """A member with the bundle's own encoder and tokenizer."""
        tokenizer = self.folder / "tokenizer.json"
        return load_model(
            self.folder / member,
            vision_source=self.encoder(member),
            tokenizer_source=tokenizer if tokenizer.exists() else None,
        )


def open_bundle(folder: Path) -> Bundle:
    """Look which members a bundle has.

    Raises:
        TrainingError: it has none.
    """
    found = {path.parent.name for path in folder.glob("*/config.json")}
    ordered = [*(name for name in MEMBERS if name in found), *sorted(found - set(MEMBERS))]
    if not ordered:
        raise TrainingError(
            f"{folder} holds no model. A bundle has a folder with a config.json for each; make one with "
            "`python -m training.train pocket-pair --bundle FOLDER`."
        )
    return Bundle(folder=folder, members=tuple(ordered))


def untrained_model(bundle: Bundle, model: LoadedModel, member: str) -> VLM:
    """The control: the member as joint training found it, before its first step.

    Raises:
        TrainingError: the bundle has no language model that has read text alone.
    """
    path = bundle.folder / text_file(model.config.llm_backbone_id)
    if not path.exists():
        raise TrainingError(
            f"{path} is missing: {member} is compared with what its training began from. "
            "`python -m training.train pocket-pair --bundle FOLDER` writes it beside the models."
        )
    recipe = FAMILIES[family_of(member)]().joint
    recipe = replace(recipe, optimisation=replace(recipe.optimisation, seed=bundle.seed(member)))
    scenes = drawn_scenes("train", SCALED_BY)
    with torch.inference_mode():
        features = model.vlm.vision([normalise(scenes.images)]).half().float()
    llm = read_text_model(model.config, path)
    return new_task(recipe, model.config, features=features, llm=llm).vlm.eval()


def measure(bundles: Sequence[Bundle], *, scenes: int) -> dict[str, dict[str, Examined]]:
    """Examine every member of every bundle: member → bundle → what it gave. Controls: in the first bundle."""
    found: dict[str, dict[str, Examined]] = {}
    material: dict[tuple[str, int], Material] = {}
    for number, bundle in enumerate(bundles):
        for member in bundle.members:
            model = bundle.load(member)
            fit = load_lens(model, "ridge").info.n_fit
            key = (encoder_digest(bundle.encoder(member)), fit)
            if key not in material:
                retention = min(RETENTION, scenes)
                with tqdm(total=scenes + fit + len(PHOTOS), desc="encode scenes") as bar:
                    material[key] = prepare(
                        model, scenes=scenes, retention=retention, fit=fit, step=bar.update
                    )
            control = None
            if number == 0:
                control = untrained_model(bundle, model, member)
            total = images_shown(material[key], controlled=control is not None)
            with tqdm(total=total, desc=f"{member}, bundle {bundle.name}") as bar:
                result = examine(model, material[key], bar.update, untrained=control)
            _require_new(result, found.get(member, {}), member, bundle)
            found.setdefault(member, {})[f"{number} {bundle.name}"] = result
    return found


def _require_new(result: Examined, known: Mapping[str, Examined], member: str, bundle: Bundle) -> None:
    for other in known.values():
        if other.fingerprint == result.fingerprint:
            raise TrainingError(
                f"{member} of bundle {bundle.name} is the same model as in another bundle: the same seed would count "
                "twice. Give bundles that were trained with different seeds (--seed)."
            )


def head(bundles: Sequence[Bundle], *, scenes: int, fit: int) -> dict[str, Any]:
    """How the numbers came about; no path of the machine."""
    names = [] if [bundle.folder for bundle in bundles] == [BUNDLED] else [each.name for each in bundles]
    command = " ".join(["python -m training.results", *names])
    if scenes != ANSWERS:
        command += f" --scenes {scenes}"
    return {
        "command": command,
        "commit": commit(),
        "answers": scenes,
        "retention": min(RETENTION, scenes),
        "fit": fit,
        "photos": list(PHOTOS),
        "bundles": [
            {"name": each.name, "members": {member: _origin(each, member) for member in each.members}}
            for each in bundles
        ],
    }


def _origin(bundle: Bundle, member: str) -> dict[str, Any]:
    """The few facts of a member's provenance that the page prints; those that were not recorded are said to be so."""
    kept = bundle.description(member).get("provenance", {})
    unknown = "not recorded"
    seed = kept.get("seed", kept.get("joint", {}).get("optimisation", {}).get("seed", unknown))
    return {
        "seed": seed,
        "command": kept.get("command", unknown),
        "commit": kept.get("commit", unknown),
        "data": kept.get("data", {}).get("digest", unknown),
        "minutes": kept.get("minutes", {}),
        "scores": kept.get("scores", []),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write; returns the process's exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.results",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundles", nargs="*", type=Path, metavar="BUNDLE", help="default: the package's own")
    parser.add_argument("--scenes", type=int, default=ANSWERS, help=f"held-out scenes (default: {ANSWERS})")
    parser.add_argument("--json", type=Path, help="also write all numbers to this file")
    parser.add_argument(
        "--out", type=Path, default=DOCUMENTS, metavar="FOLDER", help="where results.md goes (default: docs)"
    )
    options = parser.parse_args(arguments)
    return guarded(lambda: run(options), program=parser.prog)


def run(options: argparse.Namespace) -> None:
    """Measure what was asked for and write page, figure and JSON."""
    from training.results_figure import draw

    if options.scenes < 2:
        raise TrainingError(f"--scenes must be at least 2, got {options.scenes}: intervals are over scenes.")
    bundles = [open_bundle(folder.resolve()) for folder in options.bundles or [BUNDLED]]
    found = measure(bundles, scenes=options.scenes)
    fit = load_lens(bundles[0].load(bundles[0].members[0]), "ridge").info.n_fit
    numbers = {"head": head(bundles, scenes=options.scenes, fit=fit), **all_numbers(found)}
    (options.out / IMAGE).parent.mkdir(parents=True, exist_ok=True)
    draw(numbers, options.out / IMAGE)
    write_file(options.out / "results.md", lambda part: part.write_text(page(numbers), encoding="utf-8"))
    if options.json is not None:
        text = json.dumps(numbers, indent=1, ensure_ascii=False)
        write_file(options.json, lambda part: part.write_text(text, encoding="utf-8"))
    print(f"wrote {options.out / 'results.md'} and {options.out / IMAGE}")


if __name__ == "__main__":
    sys.exit(main())
