"""A file of each version of each form, as it was written, is read; those of later versions are refused by name.

Those of older versions were written by the code of the commit before the version was raised.
"""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from emma_viz.cases.casebook import Casebook
from emma_viz.cases.exchange import EXPORT_FORMAT, import_cases
from emma_viz.checkpoints.run_config import CONFIG_SCHEMA, read_config, vlm_config
from emma_viz.errors import EmmaVizError, StudyError
from emma_viz.lens.files import load_lens
from emma_viz.lens.headers import LENS_SCHEMA
from emma_viz.maps.decoding import Decoding
from emma_viz.maps.decoding_note import DECODING_SCHEMA
from emma_viz.records.answered import ANSWERED_FORMAT, open_answers
from emma_viz.render.sidecar import SIDECAR_SCHEMA, SINCE, read_spec
from emma_viz.session.benchmarks.folder import RUN_FORMAT
from emma_viz.session.benchmarks.results import TABLES_SCHEMA
from emma_viz.session.evidence.document import EVIDENCE_FORMAT, CaseEvidence
from emma_viz.study import open_study
from emma_viz.study.arrays import read_arrays
from emma_viz.study.study_file import STUDY_VERSION
from emma_viz.study.trace_files import VERSION

KEPT = Path(__file__).parent
PAGE = KEPT.parent.parent / "docs/file-formats.md"
TRACE = "entries/photo/data-00000000/000000/trace.json"
CASE_LINE = "cases.jsonl"


def in_json(name: str, *fields: str) -> Callable[[Path, int], None]:
    """Changes what the JSON file `name` of a folder (the file itself where that is "") states, in its first line."""

    def change(path: Path, version: int) -> None:
        file = path / name if name else path
        text = file.read_text("utf-8")
        first, rest = text.split("\n", 1) if file.suffix == ".jsonl" else (text, "")
        at = value = json.loads(first)
        for field in fields[:-1]:
            at = at[field]
        at[fields[-1]] = version
        file.write_text(f"{json.dumps(value)}\n{rest}", "utf-8")

    return change


def in_header(key: str, *fields: str) -> Callable[[Path, int], None]:
    """Changes what the JSON in the header of a safetensors file states."""

    def change(path: Path, version: int) -> None:
        with safe_open(path, framework="numpy") as file:
            at = header = json.loads(file.metadata()[key])
        for field in fields[:-1]:
            at = at[field]
        at[fields[-1]] = version
        save_file(load_file(path), path, metadata={key: json.dumps(header)})

    return change


def read_study(path: Path, version: int) -> None:
    trace = open_study(path).trace("photo")
    assert trace.answers == ("A cup.",)
    assert trace["resid_post", 2].shape == (1, 4, 5)
    assert trace.images[0].size == (8, 6)
    assert trace.notes == (() if version == 1 else ("a note",))
    assert not trace.labels
    assert not trace.interventions


def read_figure(path: Path, version: int) -> None:
    spec = read_spec(path)
    (case,) = spec.images
    first, second = case.models
    assert (first.name, second.name, second.forced, spec.notes) == ("one", "two", True, ("a note",))
    assert case.image.shape == (6, 8, 3)
    assert first.decoded.shape == (2, 4, 6, 3)
    assert np.isnan(first.maps[1, 0, 2])
    assert first.retention[1] == (0, 0.5)
    assert case.spans.grid == (2, 3)
    assert case.spans.is_even == (version < 7)
    assert (second.spans is None) == (version < 7)
    given = {
        "difference_limit": case.difference_limit,
        "kept": case.kept,
        "word": case.word,
        "evidence": first.evidence,
        "score": first.score,
        "marked": first.marked,
        "controls": first.controls,
        "pair": None if case.pair == (0, 1) else case.pair,
        "font_scale": None if spec.font_scale == 1 else spec.font_scale,
        "judged": first.judged,
        "beats": first.beats,
        "n_layer": first.n_layer,
    }
    assert given.keys() == SINCE.keys()
    for name, value in given.items():
        there = value is not None and not (isinstance(value, (str, tuple)) and not value)
        assert there == (SINCE[name] <= version), name


def read_lens(path: Path, version: int) -> None:
    lens = load_lens(path)
    assert lens.info.layers == (0, 2)
    assert lens.info.quality[1].r2 == 0.25
    assert bool(lens.info.controls) == (version >= 2)
    assert lens.weight.shape == (2, 6, 48)


def read_decoding(path: Path, version: int) -> None:
    arrays, meta = read_arrays(path)
    decoding = Decoding.from_arrays(arrays, meta)
    assert decoding.patches.shape == (2, 1, 9, 4, 4, 3)
    np.testing.assert_array_equal(decoding.patches[0], decoding.true)
    assert bool(decoding.lens.controls) == (version >= 2)


def read_run(path: Path, version: int) -> None:
    run = open_answers(path)
    (answered,) = run.answers()
    assert run.about.models == ("one",)
    assert answered.models[0].answer == "Yé"
    assert run.about.beside == ({"one": "0123456789ab"} if version >= 2 else {})


def read_export(path: Path, version: int) -> None:
    with Casebook.open(path.with_name("cases.db")) as casebook:
        found = import_cases(casebook, path)
        if found.complaints:
            raise StudyError(found.complaints[0])
        assert (found.cases, found.answers, found.events) == (2, 1, 3)
        (answer,) = (each for record in casebook.records() for each in record.answers)
        assert answer.beside == ("0123456789ab" if version >= 3 else "")


def read_evidence(path: Path, version: int) -> None:
    found = CaseEvidence.from_json(json.loads(path.read_text("utf-8")), where=str(path))
    assert found.object == "cup"
    assert found.curves
    assert found.sentences


def read_run_config(path: Path, version: int) -> None:
    assert vlm_config(read_config(path), where=str(path)).llm.n_layer == 3


@dataclass(frozen=True)
class Form:
    newest: int
    kept: str
    """Name in the form's folder, `{}` is the version."""
    read: Callable[[Path, int], Any]
    change: Callable[[Path, int], None]


FORMS = {
    "study": Form(VERSION, "{}", read_study, in_json(TRACE, "version")),
    "figure": Form(SIDECAR_SCHEMA, "{}.json", read_figure, in_json("", "schema")),
    "lens": Form(LENS_SCHEMA, "{}.lens", read_lens, in_header("emma_viz.lens", "schema")),
    "decoding": Form(
        DECODING_SCHEMA, "{}.safetensors", read_decoding, in_header("emma_viz", "meta", "schema")
    ),
    "run": Form(ANSWERED_FORMAT, "{}", read_run, in_json("answers.jsonl", "format")),
    "export": Form(EXPORT_FORMAT, "{}", read_export, in_json(CASE_LINE, "format")),
    "evidence": Form(EVIDENCE_FORMAT, "{}.json", read_evidence, in_json("", "format")),
    "config": Form(CONFIG_SCHEMA, "{}.json", read_run_config, in_json("", "emma_viz", "schema")),
}
VERSIONS = [(name, version) for name, form in FORMS.items() for version in range(1, form.newest + 1)]


def kept(name: str, version: int, folder: Path) -> Path:
    """A copy of a kept file or folder."""
    source = KEPT / name / FORMS[name].kept.format(version)
    copy = shutil.copytree if source.is_dir() else shutil.copyfile
    return Path(copy(source, folder / source.name))


@pytest.mark.parametrize(("name", "version"), VERSIONS)
def test_a_file_of_each_version_is_read(name, version, tmp_path):
    FORMS[name].read(kept(name, version, tmp_path), version)


@pytest.mark.parametrize(
    ("change", "said"), [(1, "newer emma_viz.* reads up to "), (-99, "schema version from 1")]
)
@pytest.mark.parametrize("name", FORMS)
def test_another_version_is_refused_by_name(name, change, said, tmp_path):
    form = FORMS[name]
    path = kept(name, form.newest, tmp_path)
    form.change(path, form.newest + change)
    with pytest.raises(EmmaVizError, match=said):
        form.read(path, form.newest)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("study", in_json("study.json", "version")),
        ("run", in_json("run.json", "format")),
        ("export", in_json("about.json", "format")),
    ],
)
def test_the_file_that_names_a_folder_is_asked_too(name, change, tmp_path):
    path = kept(name, FORMS[name].newest, tmp_path)
    change(path, 9)
    with pytest.raises(EmmaVizError, match=r"newer emma_viz.* is 9, "):
        FORMS[name].read(path, FORMS[name].newest)


def test_the_page_says_the_versions_that_are_written():
    rows = dict(re.findall(r"^\| (.+?) \|.*\| (\d+) \|$", PAGE.read_text("utf-8"), re.MULTILINE))
    stated = {
        "study.json": STUDY_VERSION,
        "trace.json": VERSION,
        "arrays of a decoding": DECODING_SCHEMA,
        "fig.png.json": SIDECAR_SCHEMA,
        "*.lens": LENS_SCHEMA,
        "answers.jsonl": ANSWERED_FORMAT,
        "asked.json": RUN_FORMAT,
        "table.json": TABLES_SCHEMA,
        "cases.jsonl": EXPORT_FORMAT,
        "evidence": EVIDENCE_FORMAT,
        "config.json": CONFIG_SCHEMA,
    }
    for name, version in stated.items():
        assert [int(newest) for row, newest in rows.items() if name in row] == [version], name


def test_what_is_kept_stays_small():
    assert sum(path.stat().st_size for path in KEPT.rglob("*") if path.is_file()) < 200_000
