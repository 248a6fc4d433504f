"""What may stand side by side on one page: members that were shown the same and differ in what is said alone."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from emma_viz.errors import TrainingError
from training.pocket.recipes import in_order
from training.results.examination import ENCODER
from training.results.measured import Announced, DescribedBundle, Measured

ALIKE = {
    "data": "the training scenes",
    "tokenizer": "the tokenizer",
    "encoder": "the encoder",
    "text": "the language model that has read text alone",
    "joint": "the recipe of the joint stage",
    "lenses": "the budget of the lenses",
}
"""Parts of an origin that seeds of one member share, in words: only the joint stage's seed may differ."""

SHARED = ("data", "tokenizer", "encoder", "joint")
"""Those of them that all members share, or they are not compared all else equal."""


def require_comparable(found: Sequence[Measured]) -> None:
    """Refuse to set side by side what was measured differently, or counts one seed twice.

    Raises:
        TrainingError: says what differs.
    """
    require_alike_bundles(found)
    for each in found[1:]:
        _require_same_questions(found[0], each)


def require_alike_bundles(found: Sequence[DescribedBundle]) -> None:
    """Refuse bundles, measured or not, that were not shown the same, differ in more than the seed, or count one twice.

    Raises:
        TrainingError: says what differs.
    """
    first = found[0]
    origins: dict[str, dict[str, Any]] = {}
    seen: dict[tuple[str, int], str] = {}
    prints: set[str] = set()
    for each in found:
        if differ := first.shown.differences(each.shown):
            raise TrainingError(
                f"Bundles {first.name} and {each.name} were not shown the same: {differ}. Measure them alike "
                "(--scenes)."
            )
        for member, origin in each.origins.items():
            key = (member, origin["seed"])
            if key in seen or each.fingerprints[member] in prints:
                raise TrainingError(
                    f"{member} of bundle {each.name} has seed {origin['seed']}, which is in bundle "
                    f"{seen.get(key, 'another')} too: a seed would count twice. Give bundles that were trained with "
                    "different seeds (--seed)."
                )
            seen[key] = each.name
            prints.add(each.fingerprints[member])
            known = origins.setdefault(member, origin)
            for name, words in ALIKE.items():
                if known[name] != origin[name]:
                    raise TrainingError(
                        f"Seeds of {member} differ in {words}, not in the seed alone: {known[name]} in bundle "
                        f"{seen[member, known['seed']]}, {origin[name]} in bundle {each.name}."
                    )
            other = next(iter(origins))
            for name in SHARED:
                if origins[other][name] != origin[name]:
                    raise TrainingError(
                        f"{other} and {member} differ in {ALIKE[name]}, so they cannot be compared: "
                        f"{origins[other][name]}, and {origin[name]} in bundle {each.name}."
                    )


def _require_same_questions(a: Measured, b: Measured) -> None:
    """What does not depend on a member must be equal, or the checkouts that measured ask or measure differently."""
    one, other = next(iter(a.members.values())), next(iter(b.members.values()))
    pairs: list[tuple[np.ndarray, np.ndarray | None]] = [(one.captions["present"], other.captions["present"])]
    pairs += [
        (columns["asked"], other.answers.get(topic, {}).get("asked"))
        for topic, columns in one.answers.items()
    ]
    for kept, others in ((one.scenes, other.scenes), (one.photos, other.photos)):
        pairs += [(values, others[ENCODER].get(name)) for name, values in kept[ENCODER].items()]
    for mine, theirs in pairs:
        if (
            theirs is None
            or mine.shape != theirs.shape
            or not np.allclose(mine, theirs, rtol=1e-3, atol=1e-4)
        ):
            raise TrainingError(
                f"Bundles {a.name} and {b.name} were measured differently: what does not depend on a member (the "
                "questions, the encoder's own columns) is not the same. Measure both with one checkout."
            )


def together(a: Measured, b: Measured) -> Measured:
    """One bundle whose members were measured at two times.

    Raises:
        TrainingError: they have a member in common, or were not shown the same.
    """
    require_comparable([a, b])
    members, origins = a.members | b.members, a.origins | b.origins
    order = in_order(members)
    return replace(
        a,
        members={name: members[name] for name in order},
        origins={name: origins[name] for name in order},
    )


def require_one_seed(announced: Announced, kept: Measured | None) -> None:
    """Refuse, before anything is measured, to keep members together that do not belong together.

    Args:
        announced: whose members are to be measured.
        kept: what is in the file already, if any.

    Raises:
        TrainingError: their seeds differ, a member is in the file already, it was shown something else, or the members
            cannot be compared.
    """
    seeds = {origin["seed"] for origin in announced.origins.values()}
    members = kept.members if kept is not None else {}
    if known := [member for member in announced.origins if member in members]:
        raise TrainingError(f"{', '.join(known)} is in the file already. Name another file.")
    if kept is not None:
        seeds |= {origin["seed"] for origin in kept.origins.values()}
        if differ := kept.shown.differences(announced.shown):
            raise TrainingError(
                f"The file and this bundle are not shown the same: {differ}. Name another file."
            )
    if len(seeds) > 1:
        raise TrainingError(
            f"Members of one seed are kept together; these have the seeds {', '.join(map(str, sorted(seeds)))}. Name "
            "another file."
        )
    if kept is not None:
        require_alike_bundles([kept, announced])
