"""Sinks: which image tokens the state takes most of, and whether they are the ones with the longest vectors."""

from collections.abc import Sequence

import numpy as np
import torch

from emma_viz.capture import record
from emma_viz.evidence.intervention import Intervention
from emma_viz.evidence.mixers.routing import mixer_at
from emma_viz.evidence.mixers.travel import retained, written
from emma_viz.metrics.trust import spearman
from probes.causes.regions import DRAWS, case_of
from probes.charts import Bars, Chart
from probes.numbers import averaged, layer_chart, mean_measure, series_of
from probes.protocol import Batch, Gathered, Measure, Needs, Result, Seen

PLACES = {
    "first": "the first patch, which nothing stands before",
    "row_ends": "the last patch of each row",
}
QUANTITIES = {
    "step": "step size Δ",
    "write": "write to the state, ‖Δu‖·‖B‖",
    "kept": "what is left of the write where the answer begins, ‖exp(A ΣΔ) ∘ (Δu ⊗ B)‖",
    "length": "length of the residual vector",
}
SETS = {
    "first": "the first patch",
    "row_ends": "the last patch of each row",
    "writers": "the twentieth of patches that write most",
    "longest": "the twentieth of patches with the longest vectors",
}
"""Patches that the state is made to pass over."""
_EVERY = 8
"""With --quick, of every so manieth image patches are passed over."""


class Sinks:
    """Step sizes, writes and lengths of patches that may serve as sinks."""

    name = "sinks"
    title = "Patches that take more than their share"
    question = (
        "Does the state favour the first patch or the ends of rows, where a text model has its first token?"
    )
    method = (
        "Per image and layer, the mean of a quantity over such patches divided by its mean over all patches: 1 is an "
        "even share. The control is as many patches drawn from inside the image. Also Spearman's correlation of a "
        "token's write with the length of its vector, whose control pairs each token with a random other. A large "
        "share is a signature, not a proof that the model relies on it, so such patches are passed over by every state "
        f"(skip, Δ := 0): how far logit(word) − logit(rival) moves, either way, against {DRAWS} random sets of as many "
        "other patches."
    )

    def needs(self) -> Needs:
        """Step sizes, inputs and input weights of the scan, and the residual stream; the model itself."""
        return Needs(sites=("resid_post", "delta", "conv", "B"), live=True, scan=("delta", "conv", "B"))

    def see(self, batch: Batch) -> Seen:
        """The shares of each image, by layer."""
        mixers = batch.trace.model.mixer_layers
        layers = [layer for layer in batch.layers if layer in mixers]
        columns: dict[str, list[list[float]]] = {}
        moved: list[dict[str, float]] = []
        notes = []
        asked = _text_steps(batch, layers)
        for row, subject in enumerate(batch.subjects):
            by_layer = [_one(batch, row, layer, asked[layer][row], seed=subject.number) for layer in layers]
            for name in by_layer[0] if by_layer else ():
                columns.setdefault(name, []).append([each[name] for each in by_layer])
            if batch.spares(row, _EVERY):
                notes.append(batch.said("patches passed over", _EVERY))
                moved.append({})
            else:
                moved.append(_passed_over(batch, row, layers))
        names = [f"moved_{name}{end}" for name in SETS for end in ("", "_control")]
        found = {name: np.array([each.get(name, np.nan) for each in moved]) for name in names}
        found |= {name: np.array(each) for name, each in columns.items()}
        return Seen(columns=found, notes=tuple(dict.fromkeys(notes)))

    def measures(self, gathered: Gathered) -> Sequence[Measure]:
        """Shares and correlation by layer, and how far the answer moves without such patches."""
        found = [
            mean_measure(
                gathered.columns[f"moved_{name}"], gathered.columns[f"moved_{name}_control"],
                name=f"sinks.moved.{name}", title=f"change of the logit difference when states pass over {said}",
                unit="nats", control_title=f"{DRAWS} random sets of as many other patches",
            )
            for name, said in SETS.items()
            if gathered.columns and np.isfinite(gathered.columns[f"moved_{name}"]).any()
        ]  # fmt: skip
        mixers = gathered.model.mixer_layers
        for at, layer in enumerate(layer for layer in gathered.layers if layer in mixers):
            for quantity, words in QUANTITIES.items():
                for place, where in PLACES.items():
                    columns, mean = averaged(gathered.columns[f"{quantity}_{place}"][:, at])
                    control, _ = averaged(gathered.columns[f"{quantity}_{place}_control"][:, at])
                    found.append(
                        Measure(
                            name=f"sinks.{quantity}_{place}", title=f"{words} of {where}, over its mean", unit="×",
                            layer=layer, columns=columns, statistic=mean, control=control,
                            control_title="as many patches from inside the image",
                        )
                    )  # fmt: skip
            columns, mean = averaged(gathered.columns["retained"][:, at])
            found.append(
                Measure(
                    name="sinks.retained", layer=layer, columns=columns, statistic=mean,
                    title="share of what image tokens wrote that the state holds where the answer begins",
                )
            )  # fmt: skip
            columns, mean = averaged(gathered.columns["together"][:, at])
            control, _ = averaged(gathered.columns["together_control"][:, at])
            found.append(
                Measure(
                    name="sinks.together", title="rank correlation of a token's write and the length of its vector",
                    layer=layer, columns=columns, statistic=mean, control=control,
                    control_title="tokens paired at random",
                )
            )  # fmt: skip
        return found

    def plots(self, results: Sequence[Result]) -> Sequence[Chart]:
        """The write of either place by layer, and the correlation."""
        drawn: list[Chart | None] = [
            layer_chart(
                results, f"sinks.write_{place}", name=place, title=f"Write of {where}", y_title="× its mean",
                caption="1 is an even share. Dashed: as many patches from inside the image.",
            )
            for place, where in PLACES.items()
        ]  # fmt: skip
        drawn.append(
            layer_chart(
                results, "sinks.retained", name="retained", title="What is left of writes where the answer begins",
                y_title="share of the write", caption="By decay alone. Bands: 95 % over images.",
            )
        )  # fmt: skip
        drawn.append(
            layer_chart(
                results, "sinks.together", name="together", title="Do long vectors write most?",
                y_title="Spearman's ρ", caption="Dashed: tokens paired at random.",
            )
        )  # fmt: skip
        series = []
        for index, result in enumerate(results):
            known = [each for name in SETS if (each := result.one(f"sinks.moved.{name}"))]
            if len(known) == len(SETS):
                series.append(series_of(result.model, index, [each.number for each in known]))
                said = f"{result.model}: {known[0].measure.control_title}"
                series.append(series_of(said, index, [each.control for each in known], control=True))
        if series:
            drawn.append(
                Bars(
                    name="moved", title="How far the answer moves when states pass patches over",
                    x=["first patch", "ends of rows", "highest writes", "longest vectors"],
                    y_title="change, nats", series=series,
                    caption="Intervention: skip at delta, in every state. Writes, vectors: the highest twentieth. "
                    "Pale: as many random patches. Whiskers: 95 % over images.",
                )
            )  # fmt: skip
        return [each for each in drawn if each is not None]

    def summary(self, results: Sequence[Result]) -> str:
        """The layer at which the first patch writes most, where it beats its control."""
        said = []
        for result in results:
            sure = [each for each in result.curve("sinks.write_first") if each.beats]
            if sure:
                most = max(sure, key=lambda each: each.number.value)
                said.append(
                    f"In {result.model} the first patch writes up to {most.number.value:.1f} × its share "
                    f"(layer {most.measure.layer})."
                )
            needed = [
                what
                for name, what in SETS.items()
                if (one := result.one(f"sinks.moved.{name}")) and one.beats
            ]
            if needed:
                said.append(f"Its answers hang on {' and on '.join(needed)} more than on random patches.")
        return " ".join(said)


def _text_steps(batch: Batch, layers: Sequence[int]) -> dict[int, tuple[torch.Tensor, ...]]:
    """Step sizes of each prompt's tokens, (M, ·), by layer."""
    assert batch.model is not None
    images, prompts = ([getattr(each, name) for each in batch.subjects] for name in ("image", "prompt"))
    trace = record(
        batch.model, images, prompts, sites=("delta",), layers=list(layers), tokens="text", generate=False,
        batch_size=len(images),
    )  # fmt: skip
    return {layer: trace.ragged("delta", layer) for layer in layers}


def _one(batch: Batch, row: int, layer: int, asked: torch.Tensor, *, seed: int) -> dict[str, float]:
    """The numbers of one image at one layer, whose prompt's tokens take the steps `asked`."""
    assert batch.model is not None
    tokens, mixer = batch.patches.shape[1], mixer_at(batch.model.vlm.llm, layer)
    rows, columns = batch.trace.geometry[row].grid
    delta, conv, b = (batch.trace[site, layer][row, :tokens] for site in ("delta", "conv", "B"))
    values = {
        "step": delta.double().flatten(1).mean(dim=-1).numpy(),
        "write": written(mixer, delta, conv, b).numpy(),
        "kept": retained(mixer, torch.cat([delta, asked]), conv, b).numpy(),
        "length": batch.trace["resid_post", layer][row, :tokens].double().norm(dim=-1).numpy(),
    }
    index = np.arange(tokens)
    special = (index == 0) | (index % columns == columns - 1)
    draw = np.random.default_rng(seed)
    inside = draw.permutation(index[~special])
    found: dict[str, float] = {}
    for place, chosen in (("first", index[:1]), ("row_ends", index[columns - 1 :: columns])):
        for name, each in values.items():
            found[f"{name}_{place}"] = _share(each, chosen)
            found[f"{name}_{place}_control"] = _share(each, inside[: len(chosen)])
    order = draw.permutation(tokens)
    found["retained"] = float(values["kept"].sum() / max(values["write"].sum(), 1e-30))
    found["together"] = spearman(values["write"], values["length"])
    found["together_control"] = spearman(values["write"], values["length"][order])
    assert rows * columns == tokens
    return found


def _passed_over(batch: Batch, row: int, layers: Sequence[int]) -> dict[str, float]:
    """How far the score moves when all states pass over each set of patches, and over random sets of as many, nats."""
    case, subject, tokens = case_of(batch, row), batch.subjects[row], batch.patches.shape[1]
    columns = batch.trace.geometry[row].grid[1]
    writes_of, lengths = np.zeros(tokens), np.zeros(tokens)
    for layer in layers:
        seen = (batch.trace[site, layer][row, :tokens] for site in ("delta", "conv", "B"))
        sizes = written(mixer_at(case.vlm.llm, layer), *seen).numpy()
        length = batch.trace["resid_post", layer][row, :tokens].double().norm(dim=-1).numpy()
        writes_of += sizes / max(sizes.mean(), 1e-30)
        lengths += length / max(length.mean(), 1e-30)
    if not np.isfinite(writes_of + lengths).all():
        return {}
    index, most = np.arange(tokens), max(1, tokens // 20)
    sets = {
        "first": index[:1],
        "row_ends": index[columns - 1 :: columns],
        "writers": np.argsort(-writes_of, kind="stable")[:most],
        "longest": np.argsort(-lengths, kind="stable")[:most],
    }
    rest = np.setdiff1d(index, np.concatenate(list(sets.values())))
    draw = np.random.default_rng(subject.number)
    sizes = {len(each): None for each in sets.values() if len(each) <= len(rest)}
    drawn = {size: [draw.permutation(rest)[:size] for _ in range(DRAWS)] for size in sizes}
    runs = [()] + [
        [Intervention(kind="skip", tokens=tuple(each.tolist()))]
        for each in (*sets.values(), *(one for some in drawn.values() for one in some))
    ]
    score, *after = case.changed(runs)
    moved = np.abs(np.array(after) - score)
    random = dict(zip(drawn, moved[len(sets) :].reshape(len(drawn), DRAWS).mean(axis=1), strict=True))
    found = {}
    for (name, each), change in zip(sets.items(), moved, strict=False):
        if len(each) in random:
            found |= {f"moved_{name}": float(change), f"moved_{name}_control": float(random[len(each)])}
    return found


def _share(values: np.ndarray, chosen: np.ndarray) -> float:
    whole = values.mean()
    if not len(chosen) or not np.isfinite(whole) or whole == 0:
        return float("nan")
    return float(values[chosen].mean() / whole)
