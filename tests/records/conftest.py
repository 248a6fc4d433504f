"""A data set in LLaVA's form."""

import pytest

from tests.records.llava_set import LlavaSet, write_llava_set


@pytest.fixture(scope="session")
def llava(tmp_path_factory) -> LlavaSet:
    return write_llava_set(tmp_path_factory.mktemp("llava"))
