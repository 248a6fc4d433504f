"""The command: from two checkpoints on disk to a report, offline; and a user's own probe in one file."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

import probes
from emma_viz.errors import StudyError
from probes.jobs import share_out
from probes.run import main
from tests.training.forked_runs import ROOT, free_port

TOY = Path(__file__).with_name("toy_probe.py")


@pytest.fixture
def nothing_on_paper(monkeypatch):
    """Reports without pictures in files, which take longer than all the rest; those of `written` have them."""
    monkeypatch.setattr("probes.pages.paper_charts.write_charts", lambda chart, stem: ())


@pytest.fixture(scope="module")
def written(pair, tmp_path_factory):
    """The report of a tiny Cobra against a tiny EMMA, with a probe of the user's own."""
    out = tmp_path_factory.mktemp("report")
    models = [*pair.models, "--vision", str(pair.vision)]
    assert main([*models, "--out", str(out), "--quick", "--count", "4", "--probes", f"retention,{TOY}"]) == 0
    return out


@pytest.mark.slow
def test_a_page_with_everything_in_it(written):
    page = (written / "report.html").read_text()
    assert not re.search(r"(src|href)=[\"']?https?:", page)
    assert page.count('id="plotly"') == 1
    assert "prefers-color-scheme: dark" in page
    for name in ("retention-r2", "loudness-length"):
        assert f'id="{name}"' in page
        for kind in ("png", "pdf"):
            assert (written / "figures" / f"{name}.{kind}").stat().st_size > 1000
    with Image.open(written / "figures" / "retention-r2.png") as picture:
        assert picture.width > 600


@pytest.mark.slow
def test_every_number_has_its_interval_its_control_and_its_difference(written):
    found = json.loads((written / "report.json").read_text())
    assert [each["name"] for each in found["models"]] == ["cobra", "emma"]
    assert all(check["passed"] for checks in found["checks"] for check in checks)
    retention, toy = found["probes"]
    for result in retention["results"]:
        assert len(result["images"]) == 4
        for each in result["findings"]:
            rounding = 1e-12 * abs(each["value"])  # where all images agree, draws differ by their sums' order
            assert each["low"] - rounding <= each["value"] <= each["high"] + rounding
            if each["name"].split(".")[1] in ("coherence", "power"):
                assert each["control"] is None
                continue
            assert each["control"]["value"] is not None
            assert each["beats_control"] == (each["over_control"]["low"] > 0 and each["holm_p"] < 0.05)
            assert each["beats_control"] or "not better than its control" in each["sentence"]
    for probe in (retention, toy):
        first, second = (result["findings"] for result in probe["results"])
        assert len(probe["differences"]) == min(len(first), len(second)) > 0
        for each in probe["differences"]:
            value = each["second"]["value"] - each["first"]["value"]
            assert abs(each["difference"]["value"] - value) < 1e-6
    with (written / "tables" / "findings.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(
        len(result["findings"]) for probe in found["probes"] for result in probe["results"]
    )


def test_the_page_about_adding_one_shows_the_file_that_is_tested():
    page = (Path(probes.__file__).parents[1] / "docs" / "extending" / "add-a-probe.md").read_text(
        encoding="utf-8"
    )
    assert f"```python\n{TOY.read_text(encoding='utf-8').strip()}\n```" in page


@pytest.mark.slow
def test_the_same_command_again_sees_nothing_twice_and_says_the_same(written, pair, capsys):
    before = json.loads((written / "report.json").read_text())
    models = [*pair.models, "--vision", str(pair.vision)]
    main([*models, "--out", str(written), "--quick", "--count", "4", "--probes", f"retention,{TOY}"])
    after = json.loads((written / "report.json").read_text())
    assert {**before, "minutes": 0} == {**after, "minutes": 0}


def test_what_can_be_refused_is_refused_before_a_model_is_loaded(pair, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("probes.run.load", None)
    model = [str(pair.cobra), "--vision", str(pair.vision), "--out", str(tmp_path / "out")]
    (tmp_path / "empty").mkdir()
    (tmp_path / "records.json").write_text('[{"image": "nothing.png"}]')
    (tmp_path / "leads-out.json").write_text('[{"image": "../private.png"}]')
    (tmp_path / "taken/report.html").mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(tmp_path / "alone.png")
    (tmp_path / "alone.json").write_text('[{"image": "alone.png"}]')
    for wrong, said in (
        (["--probes", "retensoin"], "retention"),
        (["--shard", "1/64"], "1 ≤ I ≤ N ≤ 32"),
        (["--jobs", "0"], "--jobs"),
        (["--jobs", "2", "--shard", "1/2"], "without --shard"),
        (["--layers", "99"], "99"),
        (["--images", str(tmp_path / "empty")], "holds no image"),
        (["--images", str(tmp_path / "records.json")], "nothing.png"),
        (["--images", str(tmp_path / "missing")], "no such folder"),
        (["--budget", "0"], "budget"),
        (["--count", "-1"], "at least one image"),
        (["--count", "0"], "at least one image"),
        (["--save-seconds", "nan"], "save-seconds"),
        (["--images", str(tmp_path / "leads-out.json")], "inside the image folder"),
        (["--out", str(tmp_path / "taken")], "report.html is a folder"),
        (["--images", str(tmp_path / "alone.json"), "--probes", "words"], "expected a probe that can run"),
    ):
        assert main([*model, *wrong]) == 1
        assert said in capsys.readouterr().err
    assert main([str(pair.emma)] * 3 + ["--out", str(tmp_path / "out")]) == 1
    assert "two to compare" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*model, "--shard", "0/4"])
    assert "expected I/N with I from 1 to N" in capsys.readouterr().err


def test_a_process_of_a_launcher_takes_the_part_of_its_rank(pair, tmp_path, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr("probes.run._examined", lambda models, plan, *_, **__: asked.append(plan) or ([], []))
    command = [str(pair.cobra), "--vision", str(pair.vision), "--out", str(tmp_path / "out"), "--quick"]
    assert main([*command, "--shard", "1/4"]) == 0
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    assert main(command) == 0
    assert [(each.shard.index, each.shard.of) for each in asked] == [(1, 4), (4, 4)]
    assert "shard 4 of 4 is seen" in capsys.readouterr().out
    for more, said in ((["--shard", "1/4"], "got both"), (["--jobs", "2"], "a launcher of several")):
        assert main([*command, *more]) == 1
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_one_photograph_is_a_sentence_not_a_traceback(pair, photos, tmp_path, capsys):
    out = tmp_path / "out"
    model = [str(pair.cobra), "--vision", str(pair.vision), "--out", str(out)]
    assert main([*model, "--images", str(photos[0]), "--probes", "retention"]) == 0
    assert "too little" in (out / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_on_paper")
def test_a_checkpoint_against_itself_differs_by_exactly_nothing(pair, tmp_path):
    model = str(pair.cobra)
    command = [
        model,
        model,
        "--vision",
        str(pair.vision),
        "--quick",
        "--count",
        "3",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(command) == 0
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    differences = [each for probe in found["probes"] for each in probe["differences"]]
    assert len(differences) > 20
    for each in differences:
        assert set(each["difference"].values()) <= {0.0, None}


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_on_paper")
def test_two_models_that_have_seen_no_image_in_common_are_refused_in_a_sentence_and_go_on(
    pair, tmp_path, capsys
):
    """Of so little time each sees one image a run; two images are a group."""
    more = ["--vision", str(pair.vision), "--out", str(tmp_path), "--quick", "--count", "34"]
    more += ["--budget", "1e-9", "--probes", str(TOY), "--save-seconds", "0"]
    assert main([pair.models[0], *more]) == 0
    assert main([*pair.models, *more]) == 1
    assert "expected images that both models saw, got none" in capsys.readouterr().err
    assert main([*pair.models, *more]) == 0
    results = json.loads((tmp_path / "report.json").read_text())["probes"][0]["results"]
    assert [len(each["images"]) for each in results] == [2, 2]


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_on_paper")
def test_two_launched_processes_see_what_one_sees_and_a_broken_part_is_named(pair, tmp_path, capsys):
    """By accelerate's own launcher; the same command then joins what they saw."""
    command = [str(pair.cobra), "--vision", str(pair.vision), "--quick", "--count", "4"]
    command += ["--probes", "retention,frozen"]
    together = [*command, "--out", str(tmp_path / "two")]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    alone = [*command, "--out", str(tmp_path / "one")]
    # Sums of other numbers of threads differ in their last bits.
    threads = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
    )
    for started in (
        [*launcher, "--main_process_port", str(free_port()), "-m", "probes.run", *together],
        [sys.executable, "-m", "probes.run", *alone],
    ):
        done = subprocess.run(
            started,
            cwd=ROOT,
            env=os.environ | threads | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    parts = sorted((tmp_path / "two").glob("seen/*/retention.*.npz"))
    assert [each.name for each in parts] == [f"retention.shard-{index}-of-2.npz" for index in (1, 2)]
    assert not (tmp_path / "two" / "report.json").exists()
    whole = parts[1].read_bytes()
    parts[1].write_bytes(whole[: len(whole) // 2])
    assert main(together) == 1
    assert parts[1].name in capsys.readouterr().err
    parts[1].write_bytes(whole)
    assert main(together) == 0
    assert main(alone) == 0  # what was seen is read, so that both are judged by as many threads
    one, two = (json.loads((tmp_path / name / "report.json").read_text()) for name in ("one", "two"))
    assert {**one, "minutes": 0} == {**two, "minutes": 0}


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_on_paper")
def test_two_jobs_go_on_to_what_one_process_sees(pair, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)  # each of two jobs gets one thread
    command = [str(pair.cobra), "--vision", str(pair.vision), "--quick", "--count", "4", "--probes"]

    def report(name: str, *words: str) -> dict:
        assert main([*command, str(TOY), "--out", str(tmp_path / name), *words]) == 0
        return json.loads((tmp_path / name / "report.json").read_text()) | {"minutes": 0}

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        one = report("one")
        begun = [*command, str(TOY), "--out", str(tmp_path / "two"), "--shard", "1/2", "--budget", "1e-9"]
        assert main(begun) == 0  # one of its three images
    finally:
        torch.set_num_threads(threads)
    assert report("two", "--jobs", "2") == one
    parts = sorted((tmp_path / "two").glob("seen/*/*.npz"))
    assert [each.name.split(".")[1] for each in parts] == ["all", "shard-1-of-2", "shard-2-of-2"]


@pytest.mark.slow
def test_the_failure_of_a_job_is_one_sentence(tmp_path):
    with pytest.raises(StudyError, match=r"process \d of 2: .*no-such-run.* Give the command again"):
        share_out([str(tmp_path / "no-such-run"), "--out", str(tmp_path)], 2, seen=tmp_path, total=1)


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_to_the_same_numbers(pair, tmp_path):
    def command(out: Path) -> list[str]:
        given = [
            str(pair.cobra),
            "--vision",
            str(pair.vision),
            "--quick",
            "--count",
            "8",
            "--save-seconds",
            "0",
        ]
        return [
            sys.executable,
            "-m",
            "probes.run",
            *given,
            "--probes",
            "retention,knockout",
            "--out",
            str(out),
        ]

    assert subprocess.run(command(tmp_path / "whole"), check=False).returncode == 0
    killed = tmp_path / "killed"
    process = subprocess.Popen(command(killed))
    while process.poll() is None and not list(killed.glob("seen/*/*.npz")):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "report.json").exists()
    assert subprocess.run(command(killed), check=False).returncode == 0
    whole, again = (json.loads((tmp_path / name / "report.json").read_text()) for name in ("whole", "killed"))
    assert {**whole, "minutes": 0} == {**again, "minutes": 0}


def test_the_top_of_the_page_counts_a_users_numbers_too(pair, tmp_path, nothing_on_paper):
    model = [str(pair.cobra), "--vision", str(pair.vision)]
    assert main([*model, "--out", str(tmp_path), "--quick", "--count", "4", "--probes", str(TOY)]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "No control stands beside its 4 numbers." in page
    assert "No probe found anything" not in page
