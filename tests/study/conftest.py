"""The fixtures of capture, which this room stands on."""

from tests.capture.conftest import assert_same, make_trace, model, one, photos, study, tokenizer  # noqa: F401
