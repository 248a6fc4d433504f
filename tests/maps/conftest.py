"""The fixtures of lens, which this room stands on."""

from tests.lens.conftest import make_decoding, make_info, make_model, make_trace, make_views  # noqa: F401
