"""What the rows of a comparison are called."""

from collections.abc import Sequence

from emma_viz.maps import Decoding
from emma_viz.render.words import distinct


def row_names(decodings: Sequence[Decoding]) -> tuple[str, ...]:
    """A name for each row: its model's, and where models are called alike, what tells them apart.

    That is the lens, the hook site, the fingerprint of the weights, or, of the same under the same, a number.
    """
    return distinct(
        [each.model.name for each in decodings],
        [each.lens.kind for each in decodings],
        [each.site for each in decodings],
        [each.model.fingerprint[:12] for each in decodings],
    )
