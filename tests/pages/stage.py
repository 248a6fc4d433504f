"""What a reader has of their own when they follow a page, and what stands for it when a test does."""

import json
import shutil
from pathlib import Path

import torch

from emma_viz.checkpoints import BUNDLED, load_model, save_run_directory
from emma_viz.checkpoints.tokenizers import BUNDLED_TOKENIZER
from emma_viz.data.tabletop import labelled_scenes
from emma_viz.lens import save_lens
from emma_viz.session import fit_ridge
from tests.pages.steps import DOCS, Step, steps
from tests.peers.checkpoints import write as write_peer
from tests.records.llava_set import records
from tests.session.benchmarks.test_importing import lmms_log, workbook

PAIR = "--models cobra-pocket emma-v1-pocket"
"""In place of the photo pair, which takes three times as long."""
STANDS_FOR = (
    (" --device cuda", ""),
    ("cobra-3b", "runs/cobra-3b"),
    ("RUN_DIRECTORY", "runs/my-emma"),
    ("SOURCE", "runs/my-emma"),
    ("state-spaces/mamba-130m --texts", "runs/my-emma --texts"),
    ("MODEL", "runs/my-emma"),
    ("…_samples", "2026_samples"),
)
"""What is printed, and what stands for it."""
ON_THE_PAGE = {
    "docs/training-at-scale.md": (
        ("emma-v1-3b --data", "tiny-emma-v1 --steps 2 --batch 2 --vision fresh --tokenizer tokenizer.json --data"),
        ("emma-v1-3b --dry-run --world-size 8 --data", "tiny-emma-v1 --dry-run --world-size 8 --data"),
        ("mamba-2.8b-zephyr", "fresh --held-out 2"),
        ("--model runs/emma/model", "--model runs/emma/model --vision runs/emma/model/encoder.safetensors"),
    ),
    "docs/hooks.md": (
        ("llava-hf/llava-1.5-7b-hf", "runs/llava-hf"),
        ("[3, 16]", "[0, 1]"),
        ('["attn_out", 16]', '["attn_out", 1]'),
    ),
    "docs/lenses.md": (("steps=2000, batch=16", "steps=2, batch=2"), ("fit cobra-3b", "fit runs/mine")),
    "docs/casebook.md": (("models-disagree", "one-right-one-wrong"),),
    "README.md": (("first 16,32,48 last", "first 3,5 last"),),
}  # fmt: skip
SHORTER = (
    ("emma-viz figure", f"{PAIR} --max-new-tokens 4"),
    ("emma-viz capture", f"{PAIR} --max-new-tokens 4"),
    ("emma-viz explore", PAIR),
    ("emma-viz benchmark tabletop", f"{PAIR} --limit 8"),
    ("emma-viz benchmark latency", f"{PAIR} --tokens 4 --repeats 2"),
    ("emma-viz benchmark components", "--repeats 2"),
    ("emma-viz cases evidence", "--limit 1"),
    ("emma-viz probe", "--count 4"),
    ("emma-viz train lens", "--fit-images 4 --held-out 2"),
)
"""Options that are added where they are not given, so that a command takes seconds."""
BEFORE = {
    "docs/explorer.md": ("emma-viz capture photo.jpg --store maps --out study",),
    "docs/evidence.md": ("emma-viz benchmark tabletop --out run", "emma-viz cases mine run"),
    "docs/figures.md": ("emma-viz figure photo.jpg --out fig.png",),
    "docs/models.md": ("emma-viz capture photos/ --store maps --out study",),
}
"""What a page takes for done."""
GIVEN = {
    "docs/evidence.md": """
from pathlib import Path
from emma_viz import load_lens, record
from emma_viz.data.tabletop import labelled_scenes
(scene,) = labelled_scenes("test", 1, with_kind="cup")
image, mask, prompt = scene.image, scene.mask, "Is there a cup?"
""",
    "docs/hooks.md": """
import numpy, torch
from tests.capture.transformer_peers import peer as tiny_peer
from tests.pages.stage import Fused
_, processor_output = tiny_peer("llava")
pixels = (torch.zeros(1, 3, 128, 128),)
input_ids = torch.tensor([[3, 4, 5]])
theirs = Fused()
maps = numpy.zeros((3, 4, 4))
def batches_from(start):
    yield from [(["photo.jpg"], ["Is there a cup?"])] * (2 - start)
""",
    "docs/lenses.md": """
from emma_viz.data.tabletop import labelled_scenes
images, others = ([each.image for each in labelled_scenes(split, 6)] for split in ("train", "val"))
""",
}
"""Python names that a page takes for known."""
FROM_NOTHING = {"docs/own-checkpoint.md": ("loudness.py",)}
"""Pages that make everything themselves, and what they say that a reader has."""
LEAVES = {
    "README.md": ("fig.pdf", "fig1.pdf", "fig.svg", "report.html", "report/report.html", "runs/my-emma/ridge.lens"),
    "docs/own-checkpoint.md": (
        "runs/my-cobra/ridge.lens", "both.pdf", "report/report.html", "cases.html", "loud/report.html",
    ),
    "docs/casebook.md": ("cases.zip", "other.db", "cases.pdf"),
    "docs/benchmarks.md": (
        "runs/tabletop/table.md", "costs/table.md", "runs/mine-mme/table.md", "runs/mine-chair/table.md",
    ),
    "docs/training-at-scale.md": ("runs/emma/model/native.lens", "emma.lens"),
    "docs/figures.md": ("fig.pdf",),
}  # fmt: skip
"""Files that must lie there when a page is through."""


class Fused(torch.nn.Module):
    """As mamba_ssm's: blocks that return what is to be added and the residual stream, apart."""

    class Block(torch.nn.Module):
        """One of them."""

        def forward(self, hidden, residual):
            """Both, changed."""
            return hidden * 2, residual + hidden

    def __init__(self):
        super().__init__()
        self.backbone = torch.nn.Module()
        self.backbone.layers = torch.nn.ModuleList([self.Block(), self.Block()])

    def forward(self, input_ids):
        """States of some tokens."""
        hidden = residual = input_ids[..., None].float()
        for block in self.backbone.layers:
            hidden, residual = block(hidden, residual)
        return hidden + residual


def shortened(step: Step) -> str:
    """What is run for what is printed."""
    text = step.text
    for printed, stands in (
        *ON_THE_PAGE.get(step.page, ()),
        *(STANDS_FOR if step.language == "bash" else ()),
    ):
        text = text.replace(printed, stands)
    for begin, options in SHORTER if step.language == "bash" else ():
        if text.startswith(begin) and "--from" not in text and "--study" not in text:
            for option in options.split("--")[1:]:
                if f"--{option.split()[0]}" not in text:
                    text += f" --{option.strip()}"
    if text.startswith("emma-viz probe") and "--probes" not in text and "--texts" not in text:
        text += " --probes geometry"
    return text


def furnish(folder: Path) -> None:
    """Put a reader's own things into a folder: photographs, checkpoints, data sets, logs."""
    scenes = labelled_scenes("train", 10)
    for where in ("photos", "val2014", "coco/val2014", "images", "POPE/output/coco", "logs/llava", "answers"):
        (folder / where).mkdir(parents=True)
    for number, scene in enumerate(scenes):
        scene.image.save(folder / "photos" / f"{number:03}.png")
    scenes[0].image.resize((96, 128)).save(folder / "photo.jpg")
    asked = [(each, scene) for each, scene in enumerate(scenes[:8])]
    for each, scene in asked:
        for where in ("val2014", "coco/val2014", "images"):
            scene.image.save(folder / where / f"{each}.png")
    _lines(
        folder / "pope.jsonl", [{"image": f"{each}.png", "question": "Is there a cup?"} for each, _ in asked]
    )
    (folder / "notes.txt").write_text("\n\n".join(f"A cup stands on table {each}." for each in range(6)))
    _pope(folder)
    _chair(folder)
    (folder / "mix665k.json").write_text(json.dumps(records()))
    shutil.copy(BUNDLED_TOKENIZER, folder / "tokenizer.json")
    shutil.copy(BUNDLED / "pocket-conv-128px.safetensors", folder / "encoder.safetensors")
    _checkpoints(folder)
    write_peer("llava", folder / "runs/llava-hf")
    (probe,) = (each.text for each in steps(DOCS / "extending/add-a-probe.md") if each.language == "python")
    for name in ("my_probe.py", "loudness.py"):
        (folder / name).write_text(probe)


def _pope(folder: Path) -> None:
    kinds = (("cup", "yes"), ("cat", "no"), ("dog", "no"))
    rows = [
        {"question_id": number, "image": f"{number}.png", "text": f"Is there a {name}?", "label": truth}
        for number, (name, truth) in enumerate(kinds)
    ]
    for split in ("random", "adversarial"):
        _lines(folder / "POPE/output/coco" / f"coco_pope_{split}.json", rows)
    lmms_log(folder / "logs/llava/2026_samples_pope_adv.jsonl", 3)
    workbook(folder / "llava_v1.5_POPE.xlsx")
    questions = [{**row, "text": f"{row['text']}\nAnswer.", "category": "adversarial"} for row in rows]
    _lines(
        folder / "llava_pope_test.jsonl",
        [{k: v for k, v in row.items() if k != "label"} for row in questions],
    )
    _lines(
        folder / "answers/llava.jsonl",
        [{"question_id": n, "prompt": row["text"], "text": "No."} for n, row in enumerate(questions)],
    )
    (folder / "results").mkdir()
    for task in ("existence", "color"):
        table = "a.jpg\tIs there a cup?\tYes\tYes.\na.jpg\tIs there a cat?\tNo\tYes.\n"
        (folder / "results" / f"{task}.txt").write_text(table)


def _chair(folder: Path) -> None:
    """COCO's files for two images, and what a model said about them."""
    instances = {
        "images": [{"id": each, "file_name": f"COCO_val2014_{each:012}.jpg"} for each in (1, 2)],
        "annotations": [{"image_id": each, "category_id": 5} for each in (1, 2)],
        "categories": [{"id": 5, "name": "dog"}],
    }
    captions = {"annotations": [{"image_id": 1, "caption": "A man walks a dog."}]}
    for name, content in (("instances", instances), ("captions", captions)):
        (folder / f"{name}_val2014.json").write_text(json.dumps(content))
    said = ((1, "A man and a dog."), (2, "A cat and a dog."))
    _lines(folder / "captions.jsonl", [{"image_id": each, "caption": caption} for each, caption in said])


def _lines(path: Path, rows: list) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def _checkpoints(folder: Path) -> None:
    """Run directories of the pocket family with other weights than those that ship, so that no lens is theirs."""
    images = [each.image for each in labelled_scenes("val", 8)]
    for number, (name, of) in enumerate(
        (
            ("cobra-3b", "cobra-pocket"),
            ("my-cobra", "cobra-pocket"),
            ("my-emma", "emma-v1-pocket"),
            ("mine", "emma-v1-pocket"),
        )
    ):
        model = load_model(of)
        state = {key: tensor * (1 + 0.01 * (number + 1)) for key, tensor in model.vlm.state_dict().items()}
        save_run_directory(folder / "runs" / name, model.config, state, tokenizer=model.tokenizer)
    for lens, name in (("cobra", "cobra-3b"), ("emma", "my-emma"), ("my", "my-cobra")):
        model = load_model(folder / "runs" / name)
        save_lens(
            fit_ridge(model, images[:6], heldout=images[6:], fitted_on="scenes"), folder / f"{lens}.lens"
        )
