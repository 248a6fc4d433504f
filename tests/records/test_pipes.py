"""A pipe or a folder where a file is expected is refused at once: nobody waits for a writer."""

import os

import pytest

from emma_viz.checkpoints.readers.safetensors_file import read_references
from emma_viz.errors import CheckpointError, RecordError
from emma_viz.records import read_records
from emma_viz.records.benchmarks.rows import benchmark_rows
from emma_viz.records.imports import read_lmms_log
from emma_viz.records.tables import _content_of
from emma_viz.records.vlmevalkit import read_vlmevalkit

READERS = {
    "records": lambda path: list(read_records(path, images=path.parent)),
    "benchmark": lambda path: list(benchmark_rows(path)),
    "benchmark, one array of it": lambda path: list(benchmark_rows(path, within="logs")),
    "log of lmms-eval": lambda path: read_lmms_log(path, task="pope"),
    "table of VLMEvalKit": lambda path: read_vlmevalkit(path, dataset="MME"),
    "weights": read_references,
}


@pytest.mark.parametrize("kind", ["pipe", "folder"])
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["given.json", "given.jsonl", "given.tsv"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, kind, reader, name):
    path = tmp_path / name
    (os.mkfifo if kind == "pipe" else os.mkdir)(path)
    with pytest.raises((RecordError, CheckpointError), match=rf"{name}.*got a {kind}"):
        READERS[reader](path)


def test_an_image_that_is_a_pipe_is_told_from_others_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert _content_of(tmp_path / "pipe.png", -1) == str(tmp_path / "pipe.png")
