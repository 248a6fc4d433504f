"""Every kind of file that is opened: a sound tree of it, how its files are mutated, and what is done with it."""

import os
import random
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.hostile.inputs import mutations
from benchmarks.hostile.inputs.samples import ENCODER, Samples, copied
from benchmarks.hostile.ward import Trial
from emma_viz.checkpoints import load_language_model, load_model
from emma_viz.cli.main import main
from emma_viz.data import ImageTransform, TowerNorm, read_image
from emma_viz.errors import CheckpointError, EmmaVizError, LensMismatchError
from emma_viz.lens import load_lens
from emma_viz.maps import decode
from emma_viz.records.llava import read_records
from emma_viz.session import inspection_of
from emma_viz.study import open_study

Mutate = Callable[[bytes, random.Random], mutations.Mutated]
BY_SUFFIX: dict[str, Mutate] = {
    ".json": mutations.mutate_json,
    ".jsonl": mutations.mutate_json_lines,
    ".safetensors": mutations.mutate_safetensors,
    ".lens": mutations.mutate_safetensors,
}
"""How files of a format are mutated; others as bytes."""
PLACES = ("a folder", "a pipe", "nothing", "a link to a device")
"""What a file may be replaced by; inside a folder, also by a link that leads out of it."""

KNOWN = ("load_language_model", "feature fusion")
"""In what `inspect` says is missing of sound samples."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of input."""

    name: str
    trees: tuple[Path, ...]
    """Sound files or folders of this kind."""
    check: Callable[[Path], object]
    """What is done with one; see `Trial.check`."""
    mutated: Callable[[Path], bool] = lambda path: True
    """Which files of a tree are mutated."""
    mutate: Mutate | None = None
    """How; by suffix when None."""


def kinds(samples: Samples) -> tuple[Kind, ...]:
    """All kinds, with what is done with them."""
    vision, models = str(samples.models / ENCODER), samples.models
    runs = (models / "emma", models / "cobra")
    trace = open_study(samples.study).trace("emma")

    def check_model(path: Path) -> int | str:
        return open_checkpoint(path, vision)

    return (
        Kind(name="images", trees=samples.images, check=see_image, mutate=mutations.mutate_bytes),
        Kind(
            name="sidecars",
            trees=(samples.folder / "figure.html.json",),
            check=draw_again,
            mutate=mutations.mutate_sidecar,
        ),
        Kind(
            name="studies",
            trees=(samples.study,),
            check=open_everything,
            mutated=lambda path: ".locks" not in path.parts,
        ),
        Kind(name="read studies", trees=(samples.study,), check=read_study, mutated=lambda path: False),
        Kind(name="lenses", trees=samples.lenses, check=lambda path: try_lens(path, trace, models / "emma")),
        Kind(
            name="records",
            trees=(samples.data / "data.json", samples.data / "data.jsonl"),
            check=lambda path: read_data(path, samples),
        ),
        Kind(name="configs", trees=runs, check=check_model, mutated=lambda path: path.name == "config.json"),
        Kind(
            name="tokenizers",
            trees=runs,
            check=check_model,
            mutated=lambda path: path.name == "tokenizer.json",
        ),
        Kind(
            name="weights", trees=runs, check=check_model, mutated=lambda path: path.suffix == ".safetensors"
        ),
        Kind(
            name="language models",
            trees=samples.language_models,
            check=check_model,
            mutated=lambda path: path.name == "config.json",
        ),
    )


def trials(kind: Kind, root: Path, *, count: int, seed: int, first: int = 0) -> Iterator[Trial]:
    """Sound trials of a kind, one for each tree, then mutants of it, written as they are asked for."""
    for tree in kind.trees:
        folder = root / kind.name / tree.name
        path = copied(tree, folder / "in" / tree.name)
        yield Trial(
            name=f"{kind.name}: sound {tree.name}",
            kind=kind.name,
            folder=folder,
            check=_bound(kind.check, path),
            sound=True,
        )
    for number in range(first, first + count):
        yield mutant(kind, root, number=number, seed=seed)


def mutant(kind: Kind, root: Path, *, number: int, seed: int) -> Trial:
    """One mutant; the same for the same kind, number and seed."""
    rng = random.Random(f"{seed}:{kind.name}:{number}")
    tree = rng.choice(kind.trees)
    folder = root / kind.name / str(number)
    path = copied(tree, folder / "in" / tree.name)
    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    target = rng.choice([each for each in files if kind.mutated(each)])
    if rng.random() < 0.03:
        what = rng.choice((*PLACES, "a link outside") if path.is_dir() else PLACES)
        _replace(target, what, root)
    else:
        change = kind.mutate or BY_SUFFIX.get(target.suffix, mutations.mutate_bytes)
        what, data = change(target.read_bytes(), rng)
        target.write_bytes(data)
    return Trial(
        name=f"{kind.name}/{number} {target.name}: {what}",
        kind=kind.name,
        folder=folder,
        check=_bound(kind.check, path),
        names=(*target.relative_to(folder).parts[1:], target.stem),
    )


def made(kind: Kind, name: str, root: Path, inputs: Iterable[tuple[str, Path]]) -> Iterator[Trial]:
    """Trials of inputs that were made one by one, after a sound one of the same kind."""
    yield from trials(kind, root, count=0, seed=0)
    for number, (what, path) in enumerate(inputs):
        yield Trial(
            name=f"{name}/{number} {what}",
            kind=kind.name,
            folder=root / f"{name} {number}",
            check=_bound(kind.check, path),
            names=(path.name, path.parent.name),
            where=(path if path.is_dir() and not path.is_symlink() else path.parent,),
        )


def see_image(path: Path) -> None:
    """What is done with a photograph before a model sees it."""
    image = read_image(path)
    norm = TowerNorm(name="tower", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    ImageTransform(strategy="letterbox", size=60, patch=14, towers=(norm,)).pixels([image])


def draw_again(path: Path) -> int:
    """Draw a figure from its sidecar; mostly in the format that is quickest."""
    suffix = ("html",) * 8 + ("svg", "png")
    return main(
        [
            "figure",
            "--from",
            str(path),
            "--out",
            f"again.{suffix[zlib.crc32(path.parent.parent.name.encode()) % 10]}",
        ]
    )


def open_everything(study: Path) -> int:
    """Decode a study and report on it."""
    return main(["decode", str(study)]) or main(["compare", str(study), "--out", "report.html"])


def read_study(study: Path) -> int:
    """Report on a study whose model and lens are nowhere here, and read what it holds."""
    code = main(["compare", str(study), "--out", "report.html"])
    opened = open_study(study)
    for name, entry in opened.entries.items():
        if entry.samples:
            trace = opened.trace(name)
            for site in trace.states:
                trace[site, trace.layers[0]].sum()
            list(trace.images)
    return code


def try_lens(path: Path, trace, model: Path) -> int:
    """Look at a lens, load it, and use it if it can be used."""
    code = main(["inspect", str(model), "--lens", str(path)])
    with suppress(LensMismatchError):  # a sound lens of another model
        decode(trace, load_lens(path), force=True)
    return code


def read_data(path: Path, samples: Samples) -> int:
    """Read all records, as training does; plan a run on some of the data sets, which takes longer."""
    from emma_viz.records.complaints import Complaints
    from training.train import main as train
    from training.vision_language.recipe import training_recipe
    from training.vision_language.run import Data, read_table, rules_of, split
    from training.vision_language.start import tokenizer_alone

    left_out = Complaints(100, where=str(path))
    for _ in read_records(path, on_error=lambda error: left_out.add(len(left_out), error)):
        pass
    number = next((name for name in (path.parent.name, path.parent.parent.name) if name.isdigit()), "0")
    if int(number) % 8 == 0:  # and for the sound ones, which the others are measured against
        options = ["--data", str(path), *samples.data_options[2:], "--held-out", "1"]
        return train(["joint", "--recipe", "tiny-emma-v1", *options, "--dry-run", "--work", "work"])
    recipe = training_recipe("tiny-emma-v1")
    rules = rules_of(
        *tokenizer_alone(recipe, llm="fresh", tokenizer=samples.data / "tokenizer.json", init=None)
    )
    data = Data(records=path, images=samples.data / "images", held_out=1)
    split(recipe, data, read_table(data, rules, Path("work"), progress=False))
    return 0


def open_checkpoint(path: Path, vision: str) -> int | str:
    """Inspect a checkpoint and load it; what `inspect` calls fine must load."""
    code = main(["inspect", str(path)])
    try:
        try:
            load_model(path, vision_source=vision)
        except CheckpointError as error:
            if "load_language_model" not in str(error):
                raise
            load_language_model(path)
    except EmmaVizError as error:
        # What is to be had from the hub alone is nobody's fault here.
        if code == 0 and "hub repository" not in str(error):
            found = inspection_of(path)
            if (
                found.fingerprint
                and found.config
                and all(any(each in line for each in KNOWN) for line in found.missing)
            ):
                return f"inspect calls it fine, and loading refuses: {error}"
        raise
    return code


def _bound(check: Callable[[Path], object], path: Path) -> Callable[[], object]:
    return lambda: check(path)


def _replace(target: Path, what: str, root: Path) -> None:
    target.unlink()
    if what == "a folder":
        target.mkdir()
    elif what == "a pipe":
        os.mkfifo(target)
    elif what == "a link outside":
        target.symlink_to(root.parent / "somebody-else" / "private.png")
    elif what == "a link to a device":
        target.symlink_to("/dev/zero")
