"""What the batches of a stream have in common, and what the same question asked of the same model has."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from emma_viz.capture.trace import Trace
from emma_viz.errors import StudyError


def likeness(trace: Trace) -> dict[str, object]:
    """All that the batches of a stream must have in common to be read as one trace."""

    def kept(states: Mapping[str, Tensor]) -> dict[str, str]:
        return {site: f"{values.dtype}{list(values.shape[3:])}" for site, values in states.items()}

    return {
        "model": f"{trace.model.name} ({trace.model.fingerprint[:16]}, {trace.model.dtype})",
        "image tokens": trace.model.part or "tiles",
        "sites": trace.sites,
        "layers": trace.layers,
        "tokens": trace.token_kind,
        "states": kept(trace.states),
        "states of answers": kept(trace.generated),
        "images": bool(trace.geometry),
        "answers": bool(trace.answers),
        "sampling": None if trace.sampling is None else replace(trace.sampling, seed=None),
        "prompt ids": bool(trace.prompt_ids),
        "size of views": trace.views.shape[1:] if trace.model.grid else "of each image",
        "interventions": trace.interventions,
        "hooks": tuple(report.name for report in trace.hooks),
    }


def require_alike(first: Mapping[str, object], other: Mapping[str, object]) -> None:
    """Refuse a batch that was recorded differently from the first one.

    Raises:
        StudyError: it was; every difference is named.
    """
    differ = [
        f"{name} ({first[name]} first, now {other[name]})" for name in first if first[name] != other[name]
    ]
    if differ:
        raise StudyError(
            f"All batches of a stream are recorded alike; this one differs in {'; '.join(differ)}. Start "
            "another entry."
        )
