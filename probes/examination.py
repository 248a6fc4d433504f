"""One model, all its probes, one pass over the images: resumable, in flat memory, by shards where asked."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from emma_viz.capture import Trace
from emma_viz.capture.sites import numbered_layers
from emma_viz.checkpoints import LoadedModel
from emma_viz.data.geometry import true_patches
from emma_viz.data.provenance import ModelInfo
from emma_viz.errors import InputError
from emma_viz.models.attention_sites import ALL_SITES
from emma_viz.progress import Progress
from emma_viz.session.loading import marks_beside_weights
from emma_viz.session.options import Asking
from emma_viz.session.road import Question, ask
from emma_viz.shapes import EMBEDDING
from probes.ledger import GROUPS, Ledger, own_source, program, size_of_batches
from probes.protocol import Batch, Gathered, Needs, Probe, Subject
from probes.subjects import Subjects

_DEEP = 16
"""A model with more blocks is examined at so many of them, spread over its depth."""
OTHERS = 8
"""Images beside a batch's own that means and controls are taken of."""
SAVING = 15
"""What was seen is written after so many times the time that writing takes, if that is longer."""
ANSWER = 8
"""Tokens of an answer that are read."""
_BY_TURNS = sorted(range(GROUPS), key=lambda group: (-math.gcd(group, GROUPS), group))
"""Groups as they are dealt out to processes: multiples of 32 first, then of 16, of 8, …"""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One of several processes that share the images."""

    index: int = 1
    """From 1."""
    of: int = 1

    def __post_init__(self):
        if not 1 <= self.index <= self.of <= GROUPS:
            raise InputError(f"expected a shard I/N with 1 ≤ I ≤ N ≤ {GROUPS}, got {self.index}/{self.of}.")

    def has(self, group: int) -> bool:
        """Whether this process sees that group.

        With --quick dear things are asked of every fourth or eighth image: every process sees as many of those.
        """
        return _BY_TURNS.index(group) % self.of == self.index - 1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is examined, and how."""

    subjects: Subjects
    probes: tuple[Probe, ...]
    folder: Path
    """Where what was seen is kept."""
    shard: Shard = Shard()
    quick: bool = False
    layers: tuple[int | str, ...] | None = None
    """None: all of a shallow model, some of a deep one."""
    other: LoadedModel | None = None
    """The other checkpoint of a comparison, for probes that need both at once."""
    deadline: float | None = None
    """On the monotonic clock: no batch is begun after it."""
    save_seconds: float = 15.0
    """How often what was seen is written; a kill costs so much."""
    by_group: bool = False
    """See each group whole before the next, so that a run that is cut short leaves one of them half seen: two models
    share no half. Else groups are seen in turn, so that many have some."""

    @property
    def size(self) -> int:
        """Images in a batch."""
        return size_of_batches(len(self.subjects))

    def batches(self) -> list[tuple[int, range]]:
        """(group, image numbers) of every batch, in order."""
        starts = range(0, len(self.subjects), self.size)
        found = [
            (index % GROUPS, range(start, min(start + self.size, len(self.subjects))))
            for index, start in enumerate(starts)
        ]
        return sorted(found, key=lambda each: each[0]) if self.by_group else found


def able(
    probes: Sequence[Probe],
    subjects: Subjects,
    *,
    models: int = 1,
    mixers: bool = True,
    apart: bool = True,
    ours: bool = True,
    infused: bool = False,
) -> tuple[tuple[Probe, ...], tuple[str, ...]]:
    """The probes that these images, and so many checkpoints, are enough for; a sentence for each that is left out.

    Args:
        probes: those that are asked for.
        subjects: the images.
        models: how many checkpoints there are.
        mixers: whether all of them have a state-space mixer in some of the layers that are examined.
        apart: whether every block of all of them is a norm and a mixer, as a Mamba's.
        ours: whether networks of this package run all of them.
        infused: whether all of them mix the instruction into the image's tokens.
    """
    kept, said = [], []
    for probe in probes:
        needs = probe.needs()
        lacks = [
            what
            for needed, there, what in (
                (needs.labels, subjects.labels, "labels and masks"),
                (needs.pairs, subjects.pairs, "twins (the same image without one object)"),
            )
            if needed and not there
        ]
        if needs.other and models < 2:
            said.append(f"{probe.name} was left out: it needs two checkpoints.")
        elif needs.scan and not mixers:
            said.append(without_mixers(probe.name, needs.scan))
        elif needs.apart and not apart:
            said.append(
                f"{probe.name} was left out: it takes every block apart as a norm and a Mamba's mixer, and those of a "
                "hybrid have an MLP, too, and attention in places."
            )
        elif needs.between and not ours:
            said.append(
                f"{probe.name} was left out: it puts states between blocks, and a model that transformers' own class "
                "runs is changed at its image tokens alone."
            )
        elif needs.infused and not infused:
            said.append(
                f"{probe.name} was left out: the image tokens of these models do not depend on the instruction."
            )
        elif lacks:
            said.append(f"{probe.name} was left out: these images have no {' and no '.join(lacks)}.")
        else:
            kept.append(probe)
    return tuple(kept), tuple(said)


def without_mixers(name: str, sites: Sequence[str]) -> str:
    """Why a probe of some sites inside state-space mixers is left out where no layer that is examined has one."""
    return (
        f"{name} was left out: it needs {' and '.join(sites)} of a Mamba's mixers, and the layers that are examined "
        "have none (an attention transformer has none at all)."
    )


def layers_of(depth: int, wanted: Sequence[int | str] | None) -> tuple[int, ...]:
    """The layers to examine, the embedding first.

    Raises:
        InputError: a layer does not exist.
        SiteError: a word is none of first, last and all.
    """
    if wanted is not None:
        wanted = numbered_layers(wanted, depth)
        if wrong := [layer for layer in wanted if not EMBEDDING <= layer < depth]:
            raise InputError(f"expected layers from −1 (the embedding) to {depth - 1}, got {wrong}.")
        return tuple(sorted({EMBEDDING, *wanted}))
    if depth <= _DEEP:
        return tuple(range(EMBEDDING, depth))
    return (EMBEDDING, *sorted({round(step * (depth - 1) / (_DEEP - 1)) for step in range(_DEEP)}))


def require_one_grid(model: LoadedModel, subjects: Subjects) -> None:
    """Refuse images that a model makes grids of several shapes of: probes hold all images of a run beside one another.

    Raises:
        InputError: it does.
    """
    if model.info.grid is not None:
        return
    shapes: dict[tuple[int, int], int] = {}
    for number in range(len(subjects)):
        shapes.setdefault(model.transform.geometry(subjects.take(number).image).grid, number)
    if len(shapes) > 1:
        (one, at), (other, then), *_ = shapes.items()
        raise InputError(
            f"expected images that {model.name} makes grids of one shape of, got {one[0]}×{one[1]} "
            f"({subjects.names[at]}) and {other[0]}×{other[1]} ({subjects.names[then]}); give images of one size."
        )


def examine(
    model: LoadedModel, plan: Plan, *, progress: Progress | None = None
) -> dict[str, tuple[Ledger, Gathered]]:
    """Show the model every image that was not seen yet, to every probe.

    Returns:
        By the probe's name, what it has kept: of this process's shard, and of all shards whose files are there when
        the process is not a shard.

    Raises:
        StudyError: a file of an earlier run is damaged, or of another run.
        EmmaVizError: the model cannot be run.
    """
    layers = layers_of(model.info.n_layer, plan.layers)
    about: dict[str, Any] = {
        "program": program(),
        **_told_by(model),
        "images": plan.subjects.digest,
        "layers": list(layers),
        "quick": plan.quick,
        "count": len(plan.subjects),
    }
    if plan.other is not None:
        about |= {f"{name} of the other model": each for name, each in _told_by(plan.other).items()}
    ledgers = {probe.name: _before(plan, probe, about) for probe in plan.probes}
    batches = [each for each in plan.batches() if plan.shard.has(each[0])]
    wanted = list(_unseen(batches, ledgers))
    written, pause = time.monotonic(), plan.save_seconds
    for done, (batch, seers) in enumerate(_stream(model, plan, layers, wanted)):
        for probe in plan.probes:
            if probe.name in seers:
                needs = probe.needs()
                given = replace(
                    batch,
                    model=batch.model if needs.live else None,
                    other=plan.other if needs.other else None,
                )
                numbers = [each.number for each in batch.subjects]
                ledgers[probe.name].add(batch.group, numbers, probe.see(given))
        late = plan.deadline is not None and time.monotonic() > plan.deadline
        if late or time.monotonic() - written >= pause:
            begun = time.monotonic()
            _save(plan, ledgers, about)
            written = time.monotonic()
            # Large sums on a slow disk are written more rarely: writing takes a small part of the time.
            pause = max(plan.save_seconds, SAVING * (written - begun)) if plan.save_seconds else 0.0
        if progress:
            progress(done + 1, len(wanted), f"examining {model.name}")
        if late:
            break
    _save(plan, ledgers, about)
    return {
        probe.name: (ledgers[probe.name], gathered(ledgers[probe.name], model.info, plan, layers))
        for probe in plan.probes
    }


def _told_by(model: LoadedModel) -> dict[str, Any]:
    """What tells the numbers of a model from another's; where it runs, and by which kernels, they are the same."""
    info = model.info
    found: dict[str, Any] = {"model": info.fingerprint, "dtype": info.dtype, "part": info.part}
    found["grid"] = None if info.grid is None else list(info.grid)
    return found | marks_beside_weights(model)


def gathered(ledger: Ledger, model: ModelInfo, plan: Plan, layers: tuple[int, ...]) -> Gathered:
    """A ledger as its probe reads it."""
    columns, sums = ledger.joined()
    numbers = columns.pop("number", ())
    return Gathered(
        model=model,
        layers=layers,
        columns=columns,
        sums=sums,
        images=len(numbers),
        groups=len(ledger.done),
        names=tuple(plan.subjects.names[number] for number in numbers),
        notes=tuple(ledger.notes),
        quick=plan.quick,
    )


def _file(plan: Plan, probe: str) -> Path:
    end = "all" if plan.shard.of == 1 else f"shard-{plan.shard.index}-of-{plan.shard.of}"
    return plan.folder / f"{probe}.{end}.npz"


def _before(plan: Plan, probe: Probe, about: dict) -> Ledger:
    """What was seen before of this shard's groups, by however many processes."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger()
    for file in sorted(plan.folder.glob(f"{probe.name}.*.npz")):
        ledger.merge(Ledger.load(file, about | _told_by_probe(probe)))
    return ledger.only(group for group in range(GROUPS) if plan.shard.has(group))


def _save(plan: Plan, ledgers: dict[str, Ledger], about: dict) -> None:
    for probe in plan.probes:
        ledgers[probe.name].save(_file(plan, probe.name), about | _told_by_probe(probe))


def _told_by_probe(probe: Probe) -> dict[str, str | None]:
    return {"probe": probe.name, "file of the probe": own_source(probe)}


def _unseen(
    batches: Sequence[tuple[int, range]], ledgers: dict[str, Ledger]
) -> Iterator[tuple[int, range, frozenset[str]]]:
    """The batches that some probes have not seen, with the names of those."""
    turn = dict.fromkeys(range(GROUPS), 0)
    for group, numbers in batches:
        turn[group] += 1
        seers = frozenset(name for name, ledger in ledgers.items() if ledger.done.get(group, 0) < turn[group])
        if seers:
            yield group, numbers, seers


def _stream(
    model: LoadedModel,
    plan: Plan,
    layers: tuple[int, ...],
    wanted: Sequence[tuple[int, range, frozenset[str]]],
) -> Iterator[tuple[Batch, frozenset[str]]]:
    """The batches on the road, each with who is to see it."""
    needs = [probe.needs() for probe in plan.probes]
    sites = tuple(dict.fromkeys(site for each in needs for site in each.sites)) or ("resid_post",)
    take = lru_cache(maxsize=plan.size + OTHERS)(plan.subjects.take)
    for group, numbers, seers in wanted:
        subjects = tuple(take(number) for number in numbers)
        trace = _recorded(model, subjects, sites, layers, needs)
        yield (
            Batch(
                trace=trace,
                subjects=subjects,
                patches=true_patches(trace.views, trace.geometry),
                layers=layers,
                group=group,
                first=numbers.start < GROUPS * plan.size,
                others=tuple(take(number) for number in _others(len(plan.subjects), numbers)),
                model=model,
                quick=plan.quick,
            ),
            seers,
        )


def _recorded(
    model: LoadedModel,
    subjects: Sequence[Subject],
    sites: tuple[str, ...],
    layers: tuple[int, ...],
    needs: Sequence[Needs],
) -> Trace:
    kinds = {each.tokens for each in needs if each.sites}
    if all(ALL_SITES[site].in_mixer for site in sites):  # a site that no block of several has is refused
        layers = tuple(layer for layer in layers if layer in model.info.mixer_layers)
    (found,) = ask(
        model,
        [Question(image=each.image, prompt=each.prompt) for each in subjects],
        asking=Asking(max_new_tokens=ANSWER),
        sites=sites,
        layers=layers,
        tokens="image" if kinds <= {"image"} else "all",
        batch_size=len(subjects),
    )
    return found[0]


def _others(count: int, numbers: range) -> list[int]:
    """Images that are not in the batch: the next ones, round the end."""
    after = [(numbers.stop + step) % count for step in range(count)]
    return [number for number in after if number not in numbers][:OTHERS]
