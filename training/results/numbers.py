"""From sums per image to the numbers of docs/results.md: estimates of members, and differences with claims."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emma_viz.metrics.intervals import (
    Columns,
    Estimate,
    Statistic,
    claim,
    combine,
    difference,
    estimate,
    mean_over,
)
from emma_viz.metrics.spectrum import OCTAVES, spectrum
from emma_viz.metrics.sums import PIXEL_MEASURES, pooled_r2
from training.results.cells import signed_range
from training.results.examination import ENCODER, OWN, UNSEEN_PHOTOS, Examined
from training.results.measures import ACCURACY, F1, PROBE, YES_RATE

Seeds = Sequence[Examined]
"""One member, examined with each of its seeds."""

CAPTIONS = "kinds in captions"
"""What has an F1, beside the topics of questions."""


def all_numbers(
    found: Mapping[str, Mapping[int, Examined]],
    compared: Sequence[tuple[str, str]],
    *,
    parts: Sequence[str],
) -> dict[str, Any]:
    """Everything that the page and the figure show.

    Args:
        found: member → seed → what it gave.
        compared: members that are set against each other.
        parts: `World.parts`.

    Returns:
        A JSON object: `members` (name → numbers) and `comparisons`.
    """
    members = {name: member_numbers(seeds, parts=parts) for name, seeds in found.items()}
    pairs = []
    for first, second in compared:
        both = [seed for seed in found.get(first, {}) if seed in found.get(second, {})]
        if both:
            sides = tuple([found[member][seed] for seed in both] for member in (first, second))
            pairs.append({"a": first, "b": second, "seeds": both, "rows": _compare(first, second, *sides)})
    return {"members": members, "comparisons": pairs}


def member_numbers(found: Mapping[int, Examined], *, parts: Sequence[str]) -> dict[str, Any]:
    """The numbers of one member, over its seeds; `parts`: `World.parts`."""
    seeds = list(found.values())
    first = seeds[0]
    scenes = {
        place: {
            **{name: _json(_at(seeds, place), statistic) for name, statistic in PIXEL_MEASURES.items()},
            **({} if place == OWN else {"probe": _json(_at(seeds, place), PROBE)}),
            "spectrum": {str(low): _json(_at(seeds, place), spectrum(low)) for low in OCTAVES},
        }
        for place in first.scenes
    }
    controls = {
        name: {
            place: _json([getattr(each, name)[place] for each in seeds], pooled_r2)
            for place in getattr(first, name)
        }
        for name in ("shuffled", "untrained")
    }
    return {
        "seeds": list(found),
        "scenes": scenes,
        "tuned": {
            place: _json([each.tuned[place] for each in seeds], pooled_r2)
            for place in layers_of_members(first.tuned)
        },
        "photos": {place: photo_numbers([each.photos[place] for each in seeds]) for place in first.photos},
        "loss": {name: found.to_json() for name, found in losses(seeds).items()},
        "loss_sentence": loss_sentence(seeds),
        "controls": controls,
        "trained_less_untrained": trained_less_untrained(seeds),
        "answers": {topic: _answers(seeds, topic, parts) for topic in sorted(first.answers)},
        "captions_f1": _json([each.captions for each in seeds], F1),
        "captions_f1_parts": {
            part: _json(columns, F1)
            for part, columns in by_part([each.captions for each in seeds], parts).items()
        },
        "photo_captions": dict(zip(UNSEEN_PHOTOS, first.photo_captions, strict=True)),
    }


def parts_of_answers(member: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """What a member answers, as narrowly as it is known: (topic, kind of pictures) → share of right answers, and F1 of
    the kinds in captions under the topic `CAPTIONS`. The kind is empty where a topic has but one.

    Args:
        member: of `member_numbers`.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for topic, told in member["answers"].items():
        parts = told["parts"] if len(told["parts"]) > 1 else {"": told}
        found |= {(topic, part): each["accuracy"] for part, each in parts.items()}
    captions = member["captions_f1_parts"] or {"": member["captions_f1"]}
    return found | {(CAPTIONS, part): each for part, each in captions.items()}


def trained_less_untrained(seeds: Seeds) -> dict[str, Any]:
    """R² of the trained model less that of its untrained control, on the same images, at both ends of the stream."""
    layers = layers_of_members(seeds[0].scenes)
    return {
        place: difference(_at(seeds, place), [each.untrained[place] for each in seeds], pooled_r2).to_json()
        for place in (layers[0], layers[-1])
    }


def photo_numbers(seeds: Sequence[Columns]) -> dict[str, Any]:
    """The measures of the photographs at one place: means over photographs of R² (each about its own mean colour),
    PSNR and SSIM, with Student's t over the photographs; the R² of each; the spectrum."""
    octaves = {
        str(low): round(float(np.mean([spectrum(low)(_sums(part)) for part in seeds])), 5) for low in OCTAVES
    }
    each = dict(zip(UNSEEN_PHOTOS, per_photo(seeds, pooled_r2).mean(axis=0).round(5).tolist(), strict=True))
    measures = {
        name: mean_over(per_photo(seeds, statistic)).to_json() for name, statistic in PIXEL_MEASURES.items()
    }
    return {**measures, "each": each, "spectrum": octaves}


def per_photo(seeds: Sequence[Columns], statistic: Statistic) -> np.ndarray:
    """A number of every seed and photograph, (seeds, photographs)."""
    count = len(next(iter(seeds[0].values())))
    return np.array(
        [
            [float(statistic(_sums({name: v[i : i + 1] for name, v in each.items()}))) for i in range(count)]
            for each in seeds
        ]
    )


def _sums(columns: Columns) -> dict[str, Any]:
    length = len(next(iter(columns.values())))
    return {name: column.sum() for name, column in columns.items()} | {"images": length}


def _answers(seeds: Seeds, topic: str, parts: Sequence[str]) -> dict[str, Any]:
    """Right answers about all pictures and, under `parts`, about each kind of them that anything was asked about."""
    columns = [each.answers[topic] for each in seeds]
    found = {part: each for part, each in by_part(columns, parts).items() if each[0]["asked"].any()}
    return {**_told(columns), "parts": {part: _told(each) for part, each in found.items()}}


def _told(columns: Sequence[Columns]) -> dict[str, Any]:
    numbers = {"questions": int(columns[0]["asked"].sum()), "accuracy": _json(columns, ACCURACY)}
    return numbers | ({"yes_rate": _json(columns, YES_RATE)} if "yes" in columns[0] else {})


def by_part(columns: Sequence[Columns], parts: Sequence[str]) -> dict[str, list[Columns]]:
    """The columns of each kind of pictures, where these take turns (`World.parts`); nothing where all are alike."""
    return {
        part: [{name: values[at :: len(parts)] for name, values in each.items()} for each in columns]
        for at, part in enumerate(parts)
    }


def _at(seeds: Seeds, place: str) -> list[Columns]:
    return [each.scenes[place] for each in seeds]


def _json(columns: Sequence[Columns], statistic: Statistic) -> dict[str, Any]:
    return estimate(columns, statistic).to_json()


def layers_of_members(places: Mapping[str, Any]) -> list[str]:
    """The residual stream's places, from behind the projector to the last block."""
    return [place for place in places if place not in (ENCODER, OWN)]


def stages(seeds: Seeds) -> dict[str, tuple[list[Columns], list[Columns]]]:
    """The parts of the way from image to last block: name → columns before and behind."""
    last = layers_of_members(seeds[0].scenes)[-1]
    ways = {"projector": (ENCODER, "-1"), "first block": ("-1", "0"), "later blocks": ("0", last)}
    return {name: (_at(seeds, before), _at(seeds, behind)) for name, (before, behind) in ways.items()}


def losses(seeds: Seeds) -> dict[str, Estimate]:
    """R² that each part of the way loses: R² before it less R² behind it, on the same images."""
    return {name: difference(before, behind, pooled_r2) for name, (before, behind) in stages(seeds).items()}


def loss_sentence(seeds: Seeds) -> str:
    """Whether the projector or the blocks lose more, as far as the data says."""
    last = layers_of_members(seeds[0].scenes)[-1]
    before, behind, end = _at(seeds, ENCODER), _at(seeds, "-1"), _at(seeds, last)
    found = combine([(1.0, before), (-2.0, behind), (1.0, end)], pooled_r2)
    said = claim(
        found,
        more="the projector loses more than all blocks together",
        less="the blocks together lose more than the projector",
    )
    return f"{said} (projector − blocks: {signed_range(found.to_json())})"


def _compare(first: str, second: str, a: Seeds, b: Seeds) -> list[dict[str, Any]]:
    """Differences of two members, first less second, each with the sentence that it supports.

    Args:
        first: name of a.
        second: name of b.
        a: examined with the same seeds as b, in the same order.
        b: the other.
    """
    last = (layers_of_members(a[0].scenes)[-1], layers_of_members(b[0].scenes)[-1])
    rows: list[tuple[str, str, Estimate]] = []
    for what, places in (("behind the projector", ("-1", "-1")), ("at the last block", last)):
        pair = (_at(a, places[0]), _at(b, places[1]))
        rows.append((f"R² {what}", f"of the pixels {what}", difference(*pair, pooled_r2)))
        tuned = tuple(
            [each.tuned[place] for each in side] for side, place in zip((a, b), places, strict=True)
        )
        said = f"of the pixels {what} to a tuned lens"
        rows.append((f"R² {what}, tuned lens", said, difference(*tuned, pooled_r2)))
        rows.append((f"class probe {what}", f"of the kinds {what}", difference(*pair, PROBE)))
        finest = OCTAVES[-1]
        rows.append(
            (
                f"power from {finest} cycles on, {what}",
                f"power in the finest octave (detail or noise) {what}",
                difference(*pair, spectrum(finest)),
            )
        )
    if OWN in a[0].scenes and OWN in b[0].scenes:
        pair = (_at(a, OWN), _at(b, OWN))
        rows.append(
            (
                "R² of the own decoder",
                "of the pixels through its own decoder",
                difference(*pair, pooled_r2),
            )
        )
    rows = [(label, f"{{more}} shows more {what} than {{less}}", each) for label, what, each in rows]
    for name, (before, behind) in stages(a).items():
        before_b, behind_b = stages(b)[name]
        lost = combine([(1, before), (-1, behind), (-1, before_b), (1, behind_b)], pooled_r2)
        where = "at the projector" if name == "projector" else f"in the {name}"
        rows.append((f"R² lost {where}", f"{{more}} loses more {where} than {{less}}", lost))
    for topic in sorted(a[0].answers):
        pair = ([each.answers[topic] for each in a], [each.answers[topic] for each in b])
        said = f"{{more}} answers more questions right than {{less}} ({topic})"
        rows.append((f"accuracy, {topic}", said, difference(*pair, ACCURACY)))
        if "yes" in pair[0][0]:
            said = f"{{more}} says yes more often than {{less}} ({topic})"
            rows.append((f"yes-rate, {topic}", said, difference(*pair, YES_RATE)))
    pair = ([each.captions for each in a], [each.captions for each in b])
    rows.append(("F1 of kinds in captions", "{more} names objects better than {less}", difference(*pair, F1)))
    return [_row(first, second, *row) for row in rows]


def _row(first: str, second: str, label: str, sentence: str, found: Estimate) -> dict[str, Any]:
    said = claim(
        found, more=sentence.format(more=first, less=second), less=sentence.format(more=second, less=first)
    )
    return {"what": label, "difference": found.to_json(), "claim": said}
