"""The plug-in within lmms-eval itself: scripts/lmms-eval-check makes the environment in which this runs.

A bundled model answers questions about drawn scenes, laid out as POPE's are, through lmms-eval's command and its own
task `pope_adv`; where that can, it chooses between Yes and No by their likelihoods. The log becomes a casebook. Nothing
is downloaded. Ends with 0 when answers, choices, accuracy and casebook are those that the package gives without
lmms-eval, and with 1 and a sentence when one is another.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image

from emma_viz.cases.casebook import Casebook
from emma_viz.cli.guard import guarded
from emma_viz.cli.main import main as command
from emma_viz.data.tabletop import draw_scene, make_scene
from emma_viz.errors import InputError
from emma_viz.records.benchmarks.record import BenchmarkRecord
from emma_viz.records.benchmarks.tabletop import scene_records
from emma_viz.records.questions import Question
from emma_viz.records.scorers import Answer, scorer
from emma_viz.session.answering import given_answers
from emma_viz.session.loading import load
from emma_viz.session.options import Asking, Running

_MODEL, _SPLIT = "cobra-pocket", "adversarial"
_ASKED, _CHOSEN = "scenes_pope_adv", "scenes_choice"
"""The tasks: what is answered, and which of Yes and No is the likelier."""
PLUGIN = "emma_viz.session.lmms_eval"
"""What versions before entry points are told."""
_TASK = """\
include: {base}
task: {task}
dataset_path: parquet
dataset_name: null
dataset_kwargs:
  data_files:
    {split}: {data}
test_split: {split}
lmms_eval_specific_kwargs:
  default:
    pre_prompt: ""
    post_prompt: ""
"""
_ANSWER = """\
generation_kwargs:
  max_new_tokens: 16
  do_sample: false
  until: ["."]
"""
"""Without its stop, as that task's scorer reads words."""
_CHOICE = """\
output_type: multiple_choice
doc_to_target: "{{answer|capitalize}}"
doc_to_choice: ["Yes", "No"]
target_delimiter: ""
process_results: null
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the check.

    Returns:
        0; what is not as it should be raises.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=12, help="two questions about each (default: 12)")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        records = lay_out(folder, args.scenes)
        evaluate(folder)
        log = _rows(folder, _ASKED)
        asked = [
            Question(image=folder / "images" / str(each.image), prompt=each.question) for each in records
        ]
        own = own_answers(asked)
        _require_same("answers", [each["filtered_resps"] for each in log], [each.text for each in own])
        told = json.loads(_only(folder, "*_results.json").read_text("utf-8"))["results"]
        for task, (_, metric, name) in _tasks().items():
            right = [scorer(name).right(*pair) for pair in zip(records, own, strict=True)]
            _require_same(f"{metric} of {task}", _number(told[task], metric), right.count(True) / len(right))
        into_casebook(folder, records)
    print(f"lmms-eval {version('lmms_eval')}, {len(records)} questions: {_MODEL} answers as without it")
    for task, (_, metric, _) in _tasks().items():
        print(f"{task}: {metric} {_number(told[task], metric):.3f}")
    return 0


def lay_out(folder: Path, scenes: int) -> list[BenchmarkRecord]:
    """Write images, POPE's file of questions, and lmms-eval's data and tasks."""
    import datasets  # ty: ignore[import-not-found]

    (folder / "images").mkdir()
    found = [each for index in range(scenes) for each in scene_records("test", index) if each.split == _SPLIT]
    for index in range(scenes):
        Image.fromarray(draw_scene(make_scene("test", index)).image).save(
            folder / "images" / f"test-{index}.png"
        )
    lines, rows = [], []
    for number, each in enumerate(found, start=1):
        line = {"question_id": number, "image": each.image, "text": each.question, "label": each.truth}
        lines.append(json.dumps(line) + "\n")
        picture = {"path": each.image, "bytes": (folder / "images" / str(each.image)).read_bytes()}
        names = {
            "id": str(number - 1),
            "question_id": str(number),
            "image_source": Path(str(each.image)).stem,
        }
        rows.append({**names, "question": each.question, "answer": each.truth, "image": picture})
    (folder / "pope").mkdir()
    (folder / "pope" / f"coco_pope_{_SPLIT}.json").write_text("".join(lines), encoding="utf-8")
    data = folder / f"{_SPLIT}.parquet"
    datasets.Dataset.from_list(rows).cast_column("image", datasets.Image()).to_parquet(data)
    base = _package() / "tasks" / "pope" / "pope_adv.yaml"
    (folder / "tasks").mkdir()
    for task, (more, _, _) in _tasks().items():
        words = _TASK.format(base=base, task=task, data=data, split=_SPLIT) + more
        (folder / "tasks" / f"{task}.yaml").write_text(words, encoding="utf-8")
    return found


def _package() -> Path:
    found = find_spec("lmms_eval")
    assert found is not None, "scripts/lmms-eval-check installs it"
    assert found.origin is not None
    return Path(found.origin).parent


def _tasks() -> dict[str, tuple[str, str, str]]:
    """Task → what its file has beside, its metric, and the scorer of ours that says the same.

    Where lmms-eval knows results that are more than text, it makes text of all others: no model's likelihoods are
    numbers any more when a task reads them, so that its tasks of several choices fail.
    """
    found = {_ASKED: (_ANSWER, "pope_accuracy", "lmms-eval")}
    if "GenerationResult" not in (_package() / "api" / "instance.py").read_text("utf-8"):
        found[_CHOSEN] = (_CHOICE, "acc", "cobra")
    return found


def evaluate(folder: Path) -> None:
    """Run lmms-eval's command on the tasks.

    Raises:
        InputError: it fails.
    """
    told = {} if (_package() / "models" / "registry_v2.py").exists() else {"LMMS_EVAL_PLUGINS": PLUGIN}
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    words = [sys.executable, "-m", "lmms_eval", "--model", "emma_viz", "--model_args", f"pretrained={_MODEL}"]
    words += ["--tasks", ",".join(_tasks()), "--include_path", str(folder / "tasks"), "--batch_size", "4"]
    words += ["--log_samples", "--output_path", str(folder / "logs")]
    done = subprocess.run(
        words,
        env={**os.environ, **offline, **told, "HF_HOME": str(folder / "hf")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not (folder / "logs").exists():
        raise InputError(f"lmms-eval failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")


def own_answers(asked: Sequence[Question]) -> list[Answer]:
    """What the model says when the package asks it."""
    batches = given_answers(load(_MODEL, Running()), asked, asking=Asking(max_new_tokens=16), batch_size=4)
    given = [each.answer for batch in batches for each in batch]
    return [replace(each, text=each.text.partition(".")[0].strip()) for each in given]


def into_casebook(folder: Path, records: Sequence[BenchmarkRecord]) -> None:
    """Make a casebook of the log, by our command line, and hold it against the questions.

    Raises:
        InputError: it is not what was asked and answered.
    """
    run, book, log = folder / "run", folder / "cases.db", _only(folder, f"*{_ASKED}*.jsonl")
    words = ["benchmark", "import", log, "--benchmark", "pope", "--records", folder / "pope"]
    ended = command([str(each) for each in (*words, "--images", folder / "images", "--out", run)])
    _require_same(
        "end of the import", ended or command(["cases", "mine", str(run), "--casebook", str(book)]), 0
    )
    with Casebook.open(book, make=False) as casebook:
        found = [each.record for each in casebook.cases(casebook.ids())]
        kept = [casebook.has_picture(each.image) for each in found]
    _require_same("images in the casebook", kept, [True] * len(records))
    _require_same(
        "questions in the casebook", [each.prompt for each in found], [each.question for each in records]
    )
    said = [[answer.text for answer in each.answers] for each in found]
    _require_same(
        "answers in the casebook", said, [[each["filtered_resps"]] for each in _rows(folder, _ASKED)]
    )


def _rows(folder: Path, task: str) -> list[dict[str, Any]]:
    lines = _only(folder, f"*{task}*.jsonl").read_text("utf-8").splitlines()
    rows = sorted(map(json.loads, lines), key=lambda row: row["doc_id"])
    for row in rows:  # older versions keep a list of one
        if isinstance(row["filtered_resps"], list):
            (row["filtered_resps"],) = row["filtered_resps"]
    return rows


def _only(folder: Path, pattern: str) -> Path:
    found = list((folder / "logs").rglob(pattern))
    _require_same(f"files {pattern} of lmms-eval", len(found), 1)
    return found[0]


def _number(told: dict[str, Any], metric: str) -> float:
    return float(next(value for name, value in told.items() if name.partition(",")[0] == metric))


def _require_same(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise InputError(f"{what}: expected {wanted!r:.1500}, got {found!r:.1500}.")


if __name__ == "__main__":
    sys.exit(guarded(main, program="python -m benchmarks.lmms_eval_check"))
