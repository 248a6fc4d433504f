"""Sinks: which image tokens the state takes most of, and whether they are the ones with the longest vectors."""

from collections.abc import Sequence

import numpy as np
import torch

from probes.charts import Chart
from probes.numbers import averaged, layer_chart
from probes.protocol import Batch, Gathered, Measure, Needs, Result, Seen

PLACES = {
    "first": "the first patch, which nothing stands before",
    "row_ends": "the last patch of each row",
}
QUANTITIES = {
    "step": "step size Δ",
    "write": "write to the state, ‖Δu‖·‖B‖",
    "length": "length of the residual vector",
}


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
        "share is a signature, not a proof that the model relies on it: knock the patches out to see."
    )

    def needs(self) -> Needs:
        """Step sizes, inputs and input weights of the scan, and the residual stream."""
        return Needs(sites=("resid_post", "delta", "conv", "B"))

    def see(self, batch: Batch) -> Seen:
        """The shares of each image, by layer."""
        layers = [layer for layer in batch.layers if layer >= 0]
        columns: dict[str, list[list[float]]] = {}
        for row, subject in enumerate(batch.subjects):
            by_layer = [_one(batch, row, layer, seed=subject.number) for layer in layers]
            for name in by_layer[0] if by_layer else ():
                columns.setdefault(name, []).append([each[name] for each in by_layer])
        return Seen(columns={name: np.array(each) for name, each in columns.items()})

    def measures(self, gathered: Gathered) -> Sequence[Measure]:
        """Shares and correlation by layer."""
        found = []
        for at, layer in enumerate(layer for layer in gathered.layers if layer >= 0):
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
        drawn = [
            layer_chart(
                results, f"sinks.write_{place}", name=place, title=f"Write of {where}", y_title="× its mean",
                caption="1 is an even share. Dashed: as many patches from inside the image.",
            )
            for place, where in PLACES.items()
        ]  # fmt: skip
        drawn.append(
            layer_chart(
                results, "sinks.together", name="together", title="Do long vectors write most?",
                y_title="Spearman's ρ", caption="Dashed: tokens paired at random.",
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
        return " ".join(said)


def writes(delta: torch.Tensor, conv: torch.Tensor, b: torch.Tensor) -> np.ndarray:
    """‖Δ∘u‖·‖B‖ of each token: the Frobenius norm of what it writes to the state, Δu ⊗ B.

    Args:
        delta: "T E" (Mamba-1) or "T H" (Mamba-2: one step a head).
        conv: "T E".
        b: "T N", or "T G N" flattened; with several groups the norm is over all of them.
    """
    steps = delta.double()
    inputs = conv.double()
    if steps.shape[-1] != inputs.shape[-1]:
        steps = steps.repeat_interleave(inputs.shape[-1] // steps.shape[-1], dim=-1)
    return ((steps * inputs).norm(dim=-1) * b.double().flatten(1).norm(dim=-1)).numpy()


def _one(batch: Batch, row: int, layer: int, *, seed: int) -> dict[str, float]:
    """The numbers of one image at one layer."""
    tokens = batch.patches.shape[1]
    rows, columns = batch.trace.geometry[row].grid
    delta, conv, b = (batch.trace[site, layer][row, :tokens] for site in ("delta", "conv", "B"))
    values = {
        "step": delta.double().flatten(1).mean(dim=-1).numpy(),
        "write": writes(delta, conv, b),
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
    found["together"] = _spearman(values["write"], values["length"])
    found["together_control"] = _spearman(values["write"], values["length"][order])
    assert rows * columns == tokens
    return found


def _share(values: np.ndarray, chosen: np.ndarray) -> float:
    whole = values.mean()
    if not len(chosen) or not np.isfinite(whole) or whole == 0:
        return float("nan")
    return float(values[chosen].mean() / whole)


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    from scipy.stats import rankdata

    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return float("nan")
    one, two = rankdata(first), rankdata(second)
    if one.std() == 0 or two.std() == 0:
        return float("nan")
    return float(np.corrcoef(one, two)[0, 1])
