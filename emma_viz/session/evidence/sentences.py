"""The paragraph of a case: sentences that numbers alone decide, each with the names of its numbers.

What does not exceed its control is said not to.
"""

from collections.abc import Iterator

import numpy as np

from emma_viz.cases.case import KNOCK_OUT, KNOCKED_OUT
from emma_viz.session.evidence.document import CaseCurve, CaseEvidence, EvidenceSentence
from emma_viz.shapes import EMBEDDING

_WHENCE = {
    "mask": "the object's mask",
    "box": "the object's box",
    "probe": "the place that the presence probe takes for it",
}


def sentences_of(found: CaseEvidence) -> tuple[EvidenceSentence, ...]:
    """The sentences that the numbers of a case allow."""
    parts = (_answer, _presence, _retention, _words, _parts, _knock_out, _prior)
    return tuple(each for part in parts for each in part(found))


def crossover(curve: CaseCurve) -> int | None:
    """The first layer from which on the answer's sign is that of the last layer; None where a value lacks."""
    if any(value is None for value in curve.values):
        return None
    signs = np.sign([value or 0.0 for value in curve.values])
    other = np.flatnonzero(signs != signs[-1])
    return curve.layers[0] if not len(other) else curve.layers[int(other[-1]) + 1]


def _answer(found: CaseEvidence) -> Iterator[EvidenceSentence]:
    number, curve = found.number("answer difference"), found.curve("answer")
    if number is None or curve is None:
        return
    word = _word(number.value)
    where = crossover(curve)
    text = f"{found.model} leans to “{word}” by {abs(number.value):.2f} nats"
    if where is not None:
        text += (
            "; the output layer reads that from every layer"
            if where == curve.layers[0]
            else f"; the output layer reads that from {_layer(where)} on"
        )
    yield EvidenceSentence(text=f"{text}.", numbers=("answer difference", "answer"))


def _presence(found: CaseEvidence) -> Iterator[EvidenceSentence]:
    curve, areas, answer = (
        found.curve("presence"),
        found.curve("presence area"),
        found.number("answer difference"),
    )
    if curve is None or areas is None:
        return
    last = curve.layers[-1]
    value, threshold = curve.at(last)
    area, chance = areas.at(last)
    if value is None or threshold is None:
        return
    above = value > threshold
    text = (
        f"At {_layer(last)} the presence probe for “{found.object}” is {'above' if above else 'not above'} its 5 % "
        f"false-positive threshold ({value:.2f} against {threshold:.2f})"
    )
    if answer is not None:
        said = "said so" if answer.value > 0 else "did not say so"
        if found.region_from in ("mask", "box"):
            text += f": the model {'saw' if above else 'did not see'} it and {said}"
        else:  # nobody knows that it is there: a probe may be wrong, too
            text += f": its states {'hold' if above else 'do not hold'} what the probe takes for it, and it {said}"
    numbers = ("presence", "presence area", "answer difference")
    if area is not None and chance is not None and area <= chance:
        yield EvidenceSentence(
            text=f"{text}; but on other images the probe there is no better than chance ({area:.2f}).",
            numbers=numbers,
        )
        return
    yield EvidenceSentence(text=f"{text}.", numbers=numbers)
    if not above and curve.beats:
        yield EvidenceSentence(
            text=f"It was above its threshold at {_layers(curve.beats)}.", numbers=("presence",)
        )


def _retention(found: CaseEvidence) -> Iterator[EvidenceSentence]:
    curve = found.curve("retention")
    if curve is None or not curve.values:
        return
    known = [
        (layer, value) for layer, value in zip(curve.layers, curve.values, strict=True) if value is not None
    ]
    if not known:
        return
    (first, start), (last, end) = known[0], known[-1]
    text = (
        f"Inside {_WHENCE[found.region_from or 'mask']} the decoded pixels have an R² of {start:.2f} at "
        f"{_layer(first)} and of {end:.2f} at {_layer(last)}"
    )
    if last not in curve.beats:
        text += f", which does not beat {curve.control_title}"
    yield EvidenceSentence(text=f"{text}.", numbers=("retention",))


def _words(found: CaseEvidence) -> Iterator[EvidenceSentence]:
    for name in ("logit lens", "contextual lens"):
        curve = found.curve(name)
        if curve is None:
            continue
        place = f"at {_WHENCE[found.region_from or 'mask']}"
        if curve.beats:
            where = _layers(curve.beats)
            text = f"The {name} reads “{found.object}” {place} better than 95 % of other words at {where}"
        else:
            text = (
                f"At no layer does the {name} read “{found.object}” {place} better than 95 % of other words"
            )
        yield EvidenceSentence(text=f"{text}.", numbers=(name,))


def _parts(found: CaseEvidence) -> Iterator[EvidenceSentence]:
    names = ("image part", "text part", "bias part")
    parts = [found.number(name) for name in names]
    whole = found.number("answer difference")
    if whole is None or any(each is None for each in parts):
        return
    image, text, bias = (each.value for each in parts if each is not None)
    yield EvidenceSentence(
        text=f"With the routing held, the difference of {whole.value:+.2f} nats is {image:+.2f} through image tokens, "
        f"{text:+.2f} through text tokens and {bias:+.2f} from biases.",
        numbers=("answer difference", *names),
    )


def _knock_out(found: CaseEvidence) -> Iterator[EvidenceSentence]:
    change, without, whole = (found.number(name) for name in (KNOCK_OUT, KNOCKED_OUT, "answer difference"))
    if change is None or change.control is None or without is None or whole is None:
        return
    moves = without.value - whole.value
    text = f"Without {_WHENCE[found.region_from or 'mask']} the difference moves by {moves:+.2f} nats"
    if change.value <= change.control:
        text += f", which does not beat {change.control_title} ({change.control:.2f})"
    else:
        text += f", more than {change.control_title} ({change.control:.2f})"
        if without.value * whole.value < 0:
            text += f", and the answer turns to “{_word(without.value)}”"
    yield EvidenceSentence(text=f"{text}.", numbers=(KNOCK_OUT, KNOCKED_OUT, "answer difference"))


def _prior(found: CaseEvidence) -> Iterator[EvidenceSentence]:
    names = ("prior: mean tokens", "prior: another image", "prior: no image")
    whole = found.number("answer difference")
    known = [each for name in names if (each := found.number(name)) is not None]
    if whole is None or len(known) < len(names):
        return
    said = _word(whole.value)
    same = [each.name.removeprefix("prior: ") for each in known if (each.value > 0) == (whole.value > 0)]
    values = ", ".join(f"{each.value:+.2f} with {each.name.removeprefix('prior: ')}" for each in known)
    if len(same) == len(known):
        text = f"The answer does not need this image: it is “{said}” with mean tokens, other images and none, too"
    elif same:
        text = f"The answer “{said}” stays with {' and '.join(same)}, and turns otherwise"
    else:
        text = f"The answer needs this image: it is “{_word(-whole.value)}” with mean tokens, other images and none"
    yield EvidenceSentence(text=f"{text} ({values}).", numbers=("answer difference", *names))


def _word(value: float) -> str:
    return "yes" if value > 0 else "no"


def _layer(layer: int) -> str:
    return "the embedding" if layer == EMBEDDING else f"layer {layer}"


def _layers(layers: tuple[int, ...]) -> str:
    """Layers in words, runs of them by their ends."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    said = [_layer(run[0]) if len(run) == 1 else _run(run[0], run[-1]) for run in runs]
    return " and ".join([", ".join(said[:-1]), said[-1]] if len(said) > 1 else said)


def _run(first: int, last: int) -> str:
    return f"layers {first} to {last}" if first != EMBEDDING else f"the embedding to layer {last}"
