"""What a language model's stream holds of a text by layer: what comes next, the first token, what was written."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from emma_viz.capture import Trace
from emma_viz.capture.questions import TextModel
from emma_viz.evidence.logit_lens import word_scores
from emma_viz.evidence.mixers.routing import mixer_at
from emma_viz.evidence.mixers.travel import retained
from probes.charts import Chart
from probes.numbers import averaged, layer_chart
from probes.protocol import Gathered, Measure, Reported, Result


@runtime_checkable
class TextProbe(Reported, Protocol):
    """One way of examining a language model on text."""

    sites: tuple[str, ...]
    """Hook sites whose states it reads."""
    scan: bool
    """Whether some are of state-space mixers; it is left out where a model has none."""

    def read(
        self, model: TextModel, trace: Trace, layers: Sequence[int], number: int
    ) -> Mapping[str, np.ndarray]:
        """What is kept of a text, one row for each column; NaN where a number is not defined.

        Args:
            model: the model.
            trace: of the one text.
            layers: those that are examined, −1 (the embedding) first.
            number: of the text; tells what is drawn.
        """
        ...


class NextToken:
    """What the output layer reads of the next token at each layer."""

    name = "next"
    title = "Where the next token is read"
    question = "From which layer on does the stream name the token that follows?"
    method = (
        "The logit lens: last norm and output layer on the residual stream of each layer, and the log-probability that "
        "it gives the token that follows, averaged over a text. The control is the token that follows at another place "
        "of the same text, drawn at random: it is as frequent. What this lens does not read, another may."
    )
    sites: tuple[str, ...] = ("resid_post",)
    scan = False

    def read(
        self, model: TextModel, trace: Trace, layers: Sequence[int], number: int
    ) -> Mapping[str, np.ndarray]:
        """Nats by layer, of the true token and of one that is drawn."""
        ids = torch.tensor(trace.prompt_ids[0][1:])
        drawn = ids[torch.from_numpy(np.random.default_rng(number).permutation(len(ids)))]
        found = np.full((2, len(layers)), np.nan)
        for at, layer in enumerate(layers if len(ids) > 1 else ()):
            chances = word_scores(model, trace["resid_post", layer][0, :-1]).log_softmax(dim=-1).cpu()
            for row, wanted in enumerate((ids, drawn)):
                found[row, at] = float(chances.gather(1, wanted[:, None]).double().mean())
        return {"next": found[0], "next_control": found[1]}

    def measures(self, gathered: Gathered) -> Sequence[Measure]:
        """Means over texts by layer."""
        return _by_layer(
            gathered, "next", title="log-probability of the next token, by the logit lens", unit="nats",
            control_title="the token that follows at another place of the text",
        )  # fmt: skip

    def plots(self, results: Sequence[Result]) -> Sequence[Chart]:
        """The curve by layer."""
        caption = "Bands: 95 % over texts. Dashed: the token that follows at another place."
        return _charts(results, "text.next", "The next token, by layer", "nats", caption)

    def summary(self, results: Sequence[Result]) -> str:
        """At how many layers it is read better than another token."""
        said = []
        for result in results:
            curve = result.curve("text.next")
            better = sum(bool(each.beats) for each in curve)
            said.append(
                f"{result.model} names the next token better than another of the text at {better} of {len(curve)} "
                "layers."
            )
        return " ".join(said)


class FirstToken:
    """Whether the first token is a sink."""

    name = "first"
    title = "The first token"
    question = "Is the vector of a text's first token longer than the others'?"
    method = (
        "The length of the first token's residual vector over the mean of all tokens of the text; 1 is an even share. "
        "The control is another token, drawn at random. A long vector is a signature of a sink, not a proof that the "
        "model relies on it."
    )
    sites: tuple[str, ...] = ("resid_post",)
    scan = False

    def read(
        self, model: TextModel, trace: Trace, layers: Sequence[int], number: int
    ) -> Mapping[str, np.ndarray]:
        """The share by layer, of the first token and of another."""
        count = len(trace.prompt_ids[0])
        found = np.full((2, len(layers)), np.nan)
        if count > 1:
            other = int(np.random.default_rng(number).integers(1, count))
            lengths = np.stack(
                [trace["resid_post", layer][0].double().norm(dim=-1).numpy() for layer in layers]
            )
            found = lengths[:, [0, other]].T / lengths.mean(axis=1)
        return {"first": found[0], "first_control": found[1]}

    def measures(self, gathered: Gathered) -> Sequence[Measure]:
        """Means over texts by layer."""
        return _by_layer(
            gathered, "first", title="length of the first token's vector, over the mean", unit="×",
            control_title="another token of the text",
        )  # fmt: skip

    def plots(self, results: Sequence[Result]) -> Sequence[Chart]:
        """The curve by layer."""
        caption = "1 is an even share. Bands: 95 % over texts. Dashed: another token."
        return _charts(results, "text.first", "Length of the first token's vector", "× the mean", caption)

    def summary(self, results: Sequence[Result]) -> str:
        """Nothing for the top of the report."""
        return ""


class Reach:
    """How far back what the state holds was written."""

    name = "reach"
    title = "How far back the state reaches"
    question = "Behind a text's last token, how many tokens back was what the state still holds written?"
    method = (
        "Of each token's write, Δu ⊗ B, the size that decay leaves of it behind the last token; the mean distance of "
        "the tokens, weighted by it. The control is the middle of the text, where all tokens would count alike: to "
        "beat it is to be nearer. It says nothing of what later blocks made of a write."
    )
    sites: tuple[str, ...] = ("delta", "conv", "B")
    scan = True

    def read(
        self, model: TextModel, trace: Trace, layers: Sequence[int], number: int
    ) -> Mapping[str, np.ndarray]:
        """Tokens by layer, and half the text's length."""
        count = len(trace.prompt_ids[0])
        back = np.arange(count)[::-1]
        found = np.full(len(layers), np.nan)
        for at, layer in enumerate(layers):
            if layer not in model.info.mixer_layers or count < 2:
                continue
            seen = (trace[site, layer][0] for site in self.sites)
            kept = retained(mixer_at(model.vlm.llm, layer), *seen).numpy()
            if kept.sum() > 0:
                found[at] = float((kept * back).sum() / kept.sum())
        return {"reach": found, "reach_control": np.where(np.isfinite(found), back.mean(), np.nan)}

    def measures(self, gathered: Gathered) -> Sequence[Measure]:
        """Means over texts by layer; shorter than the middle is what decay does."""
        return _by_layer(
            gathered, "reach", title="mean distance of what the state holds", unit="tokens", higher=False,
            control_title="the middle of the text",
        )  # fmt: skip

    def plots(self, results: Sequence[Result]) -> Sequence[Chart]:
        """The curve by layer."""
        caption = "By decay alone. Bands: 95 % over texts. Dashed: the middle of the text."
        return _charts(results, "text.reach", "How far back the state reaches", "tokens", caption)

    def summary(self, results: Sequence[Result]) -> str:
        """Nothing for the top of the report."""
        return ""


def _by_layer(gathered: Gathered, name: str, *, higher: bool = True, **said: str) -> list[Measure]:
    found = []
    for at, layer in enumerate(gathered.layers):
        values, control = (gathered.columns[f"{name}{end}"][:, at] for end in ("", "_control"))
        if not np.isfinite(values).any():
            continue
        columns, mean = averaged(values)
        found.append(
            Measure(
                name=f"text.{name}", layer=layer, columns=columns, statistic=mean, higher=higher,
                control=averaged(control)[0], **said,
            )
        )  # fmt: skip
    return found


def _charts(results: Sequence[Result], measure: str, title: str, y_title: str, caption: str) -> list[Chart]:
    name = measure.removeprefix("text.")
    chart = layer_chart(results, measure, name=name, title=title, y_title=y_title, caption=caption)
    return [] if chart is None else [chart]


TEXT_PROBES: tuple[TextProbe, ...] = (NextToken(), FirstToken(), Reach())
"""In the order of the report."""
