"""What an entry was recorded with beside the weights that its fingerprint is of: image encoders and tokenizer."""

from collections.abc import Mapping

from emma_viz.errors import StudyError
from emma_viz.study import Study

BESIDE_WEIGHTS = "beside-weights"
"""Arrays of an entry whose description holds the marks."""


def keep_marks(study: Study, entry: str, marks: Mapping[str, str]) -> None:
    """Keep what `emma_viz.session.loading.named_marks` says of the model of an entry, if none is kept yet."""
    if marks and BESIDE_WEIGHTS not in study.entry(entry).arrays:
        study.save_arrays(entry, BESIDE_WEIGHTS, {}, marks)


def begun_otherwise(study: Study, entry: str, marks: Mapping[str, str], *, overwrite: bool) -> bool:
    """Whether another encoder or tokenizer began an entry, which goes then; one that has no marks stays.

    Raises:
        StudyError: another did, and `overwrite` is False; or what was kept is damaged.
    """
    if entry not in study or BESIDE_WEIGHTS not in study.entry(entry).arrays:
        return False
    _, there = study.load_arrays(entry, BESIDE_WEIGHTS)
    differ = [what for what, mark in marks.items() if there.get(what, mark) != mark]
    if differ and not overwrite:
        raise StudyError(
            f"{study.path} already has an entry {entry!r} that was recorded with another "
            f"{' and another '.join(differ)}. Give the same --vision and --tokenizer to go on with it, another study, "
            "or --overwrite to replace it."
        )
    return bool(differ)
