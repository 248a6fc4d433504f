"""The programs that measure speed: their rows, their page, and what they do without a GPU."""

import importlib.util
import json
import os
import subprocess
import sys
from functools import partial
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import full_size, gpu_check
from benchmarks import run as speed
from benchmarks.kernels import SIZES, Products, our_mixer, run
from benchmarks.speed import compiled, layers, models, parts, processes, references, roofline
from benchmarks.speed.parts import broken_down
from benchmarks.speed.rows import Row, interleaved, of, ratios
from emma_viz import kernels
from emma_viz.errors import InputError
from training.vision_language.recipe import training_recipe


def test_a_row_says_whether_its_goal_is_met_and_by_how_much_not():
    ceiling = of("a", [1.0, 2.0, 4.0, 2.0], goal=1.6)
    assert (ceiling.median, ceiling.met) == (2.0, False)
    assert "| ≤ 1.6 × | missed by 25% |" in ceiling.line()
    assert of("a", [1.0, 2.0], goal=1.5).met
    floor = of("a", [3.0], goal=4.0, at_most=False)
    assert not floor.met
    assert "| ≥ 4 × | missed by 25% |" in floor.line()
    assert of("a", [3.0]).met is None
    assert ((pair := of("a", [3.0, 1.0])).low, pair.high) == (1.0, 3.0)


def test_calls_take_turns_and_the_first_turn_does_not_count():
    order = []
    found = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=2)
    assert order == ["a", "b"] * 3
    assert [len(times) for times in found.values()] == [2, 2]
    assert ratios({"x": [2.0, 6.0], "y": [1.0, 2.0]}, "x", "y") == [2.0, 3.0]


def test_the_page_keeps_its_own_text_and_takes_rows_and_a_card(tmp_path):
    page, rows, card = (tmp_path / name for name in ("page.md", "rows.json", "card.json"))
    page.write_text(
        "before\n<!-- speed: written by python -m benchmarks.run -->\nold\n<!-- end of speed -->\nafter\n"
    )
    record = Row(what="a layer", median=1.5, low=1.4, high=1.6, rounds=9, goal=2.0).record()
    rows.write_text(json.dumps({"layers": {"rows": [record], "machine": "one core"}}))
    speed.main(["--from", str(rows), "--page", str(page)])
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("<!-- end of speed -->\nafter\n")
    assert "old" not in text
    assert "| a layer | 1.5 × | 1.4 – 1.6 | 9 | ≤ 2 × | met |" in text
    assert "Measured on one core." in text
    assert "**Not run on a GPU.**" in text
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"layers": {"rows": [{**record, "median": 1.7}], "machine": "another core"}}))
    speed.main(["--from", str(rows), "--beside", str(other), "--page", str(page)])
    text = page.read_text()
    assert text.count("### One layer, against its own matrix products, fp32") == 1
    assert (
        text.index("1.5 ×")
        < text.index("on one core.")
        < text.index("1.7 ×")
        < text.index("on another core.")
    )
    assert "compiled for compute capability" not in text
    found = {"compiled": {"rows": [record], "machine": "one core"}}
    assert "compiled for compute capability 8.0 and 9.0" in speed.page(found, None)
    stages = [{"what": "FSDP2", "said": "5 steps", "seconds": 2.0}]
    card.write_text(json.dumps({"device": "a card", "versions": "torch 2", "rows": stages}))
    speed.main(["--from", str(rows), "--gpu", str(card), "--page", str(page)])
    assert "### On a card" in page.read_text()
    assert "Not run on a GPU" not in page.read_text()


def test_the_page_takes_the_3b_models_where_they_were_measured(tmp_path):
    page, rows, full = (tmp_path / name for name in ("page.md", "rows.json", "full.json"))
    marked = "\n".join(
        [*speed._MARKS, "between", speed._FULL_MARKS[0], "an old table", speed._FULL_MARKS[1], "after"]
    )
    page.write_text(marked)
    rows.write_text("{}")
    speed.main(["--from", str(rows), "--page", str(page)])
    assert "an old table" in page.read_text()
    row = {"what": "load", "seconds": 2.0, "low": 1.0, "high": 3.0, "rounds": 3, "said": "peak 20 MB"}
    full.write_text(json.dumps({"machine": "bfloat16 on cpu", "rows": [row]}))
    speed.main(["--from", str(rows), "--full", str(full), "--page", str(page)])
    text = page.read_text()
    assert "an old table" not in text
    assert text.index("between") < text.index("| load | 2 s | 1 – 3 | peak 20 MB |") < text.index("after")
    assert "Measured in bfloat16 on cpu." in text
    # Nothing is half written, and nothing measured first.
    half = "\n".join([*speed._MARKS, "between"])
    for text, missing in (("no marks", "speed"), (half, "full size")):
        page.write_text(text)
        with pytest.raises(InputError, match=f"no place for the tables: the lines <!-- {missing}"):
            speed.main(["--from", str(rows), "--full", str(full), "--page", str(page)])
        assert page.read_text() == text
    with pytest.raises(InputError, match="--full is for the page: name it"):
        speed.main(["--from", str(rows), "--full", str(full)])


def test_a_page_without_a_place_is_refused_before_anything_is_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(speed, "measured", None)
    page = tmp_path / "page.md"
    page.write_text("no marks")
    with pytest.raises(InputError, match="no place for the tables"):
        speed.main(["--rows", "figure", "--page", str(page)])


def test_a_table_says_the_threads_of_what_it_measured(monkeypatch, tmp_path):
    kept, seen = tmp_path / "rows.json", []
    for group in ("figure", "images"):
        monkeypatch.setitem(
            speed.GROUPS, group, lambda: [seen.append(os.environ["OMP_NUM_THREADS"]) or of("a", [1.0])]
        )
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    threads = torch.get_num_threads()
    try:
        speed.main(["--rows", "figure", "images", "--json", str(kept)])
    finally:
        torch.set_num_threads(threads)
    machines = {group: each["machine"] for group, each in json.loads(kept.read_text()).items()}
    assert ", 2 threads, Python" in machines["figure"]
    assert ", 1 thread, Python" in machines["images"]
    assert seen == ["1", "1"]  # processes that it starts have as many as the table says


def test_memory_against_images_and_tokens_is_of_the_most_against_the_fewest(monkeypatch):
    # Each round: seconds of one, 1000 and 10 000 images on a line, in the second round on none.
    held, spent = iter([400.0, 490.0, 500.0, 400.0, 500.0, 600.0]), iter([1, 999, 9999, 1, 1998, 9999])
    clock = chain.from_iterable((0.0, each) for each in spent)
    monkeypatch.setattr(processes.resource, "getrusage", lambda _: SimpleNamespace(ru_utime=next(clock)))
    monkeypatch.setattr(processes, "draw_images", lambda folder, count: None)
    monkeypatch.setattr(processes, "peak", lambda *_: next(held))
    monkeypatch.setattr(processes, "ROUNDS", 2)
    monkeypatch.setattr(processes, "COUNTS", (1, 999, 9999))
    first, second, residual = processes.images()
    assert (first.low, first.high, first.rounds) == (500 / 400, 600 / 400, 2)
    assert (second.low, second.high) == pytest.approx((500 / 490, 600 / 500))
    assert (residual.low, residual.high) == (0.0, 1.0)
    assert first.note == "400 MB, 495 MB, 550 MB"
    monkeypatch.setattr(processes, "LENGTHS", (4, 1028))
    monkeypatch.setattr(processes, "NAMES", {"mamba1": "Mamba-1"})
    spoken = iter(["300.0", "310.0", "300.0", "330.0"])
    monkeypatch.setattr(
        processes.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=next(spoken) + "\n")
    )
    (row,) = processes.lengths()
    assert (row.low, row.high, row.note) == (310 / 300, 330 / 300, "300 MB, 320 MB")
    assert "(20 kB a token)" in row.what


def test_the_residual_of_a_line_is_of_each_round(monkeypatch):
    lengths = (100, 200, 400)
    line = {str(n): [2e-3 + 1e-5 * n] * 2 for n in lengths}
    monkeypatch.setattr(models, "LENGTHS", lengths)
    monkeypatch.setattr(models, "small", lambda *_, **__: None)
    monkeypatch.setattr(
        models, "interleaved", lambda *_, **__: {**line, "400": [line["400"][0], 2 * line["400"][0]]}
    )
    row = next(models.length())
    assert row.rounds == 2
    assert row.low == pytest.approx(0, abs=1e-9)
    assert row.high > 0.1


def test_the_roofline_is_the_larger_of_two_times():
    card = roofline.Card(name="a", bandwidth=10.0, half=100.0, tf32=50.0, single=5.0)
    work = {"name": "w", "bytes": 20.0}
    assert roofline.Work(**work, operations=100.0, unit="half").seconds(card) == 2.0
    assert roofline.Work(**work, operations=100.0, unit="single").seconds(card) == 20.0
    products, *_ = roofline.layer("mamba1", width=64, length=1, states=16)
    assert products.operations == 2 * sum(
        p.numel() for p in Products(our_mixer("mamba1", SMALL, "torch"), SMALL).weights
    )


SMALL = type(SIZES["a1"])(width=64, length=4, batch=1)


def once(calls, **_):
    """In place of `interleaved`: every call is made, and takes a second."""
    for call in calls.values():
        call()
    return {name: [1.0, 1.0] for name in calls}


@pytest.mark.parametrize("length", [1, 70, 128])
def test_mamba_ssms_references_compute_what_ours_do(length):
    draw = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=draw)

    wide, vector = (2, length, 6), (2, length, 3)
    given = normal(*wide), normal(*wide), -normal(6, 3).exp(), normal(*vector), normal(*vector), normal(6)
    named = {"z": normal(*wide), "delta_bias": normal(6)}
    expected = kernels.selective_scan(*given, **named, delta_softplus=True, backend="reference")
    for actual, each in zip(references.selective_scan_ref(*given, **named), expected, strict=True):
        torch.testing.assert_close(actual, each, rtol=1e-4, atol=1e-4)
    vector = (2, length, 2, 3)
    given = normal(2, length, 4, 5), normal(2, length, 4), -normal(4).exp(), normal(*vector), normal(*vector)
    named = {"dt_bias": normal(4)}
    expected = kernels.ssd(*given, skip := normal(4), **named, dt_softplus=True, backend="reference")
    for actual, each in zip(references.ssd_minimal_discrete(*given, skip, **named), expected, strict=True):
        torch.testing.assert_close(actual, each, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_others_layers_are_named_for_what_they_are_and_one_that_is_missing_is_said(monkeypatch, capsys):
    found, ran = importlib.util.find_spec, []
    monkeypatch.setattr(layers, "SIZES", dict.fromkeys(("a1", "b"), SMALL))
    monkeypatch.setattr(layers, "interleaved", once)
    for name in ("selective_scan_ref", "ssd_minimal_discrete"):
        theirs = getattr(references, name)
        monkeypatch.setattr(
            references,
            name,
            lambda *given, name=name, theirs=theirs, **named: ran.append(name) or theirs(*given, **named),
        )
    monkeypatch.setattr(
        layers.importlib.util, "find_spec", lambda name: None if name == "mambapy" else found(name)
    )
    rows = [row.what for row in layers.peers()]
    assert ran == ["selective_scan_ref"] * 3 + ["ssd_minimal_discrete"] * 3
    assert sum("mamba_ssm's `selective_scan_ref`" in row and "Mamba-1" in row for row in rows) == 3
    assert sum("mamba_ssm's `ssd_minimal_discrete`" in row and "Mamba-2" in row for row in rows) == 3
    assert not any("mamba_ssm" in row for row in rows if "`reference`" in row)
    assert not any("mambapy" in row for row in rows)
    assert "pip install mambapy" in capsys.readouterr().err


@pytest.fixture
def tiny_130m(monkeypatch):
    for name, value in {"LAYERS": 2, "WIDTH": 64, "ROWS_OF_TABLE": 50, "TOKENS": 3}.items():
        monkeypatch.setattr(models, name, value)


@pytest.mark.slow
def test_generation_is_by_both_sides_generate_and_of_both_mambas(monkeypatch, tiny_130m):
    answered = []
    ours = models.generate
    monkeypatch.setattr(models, "interleaved", once)
    monkeypatch.setattr(models, "generate", lambda *given, **named: answered.append(ours(*given, **named)))
    rows = list(models.generation())
    assert [row.what.partition(",")[0] for row in rows] == ["Mamba-1 130M"] * 4 + ["Mamba-2 130M"] * 4
    assert [[len(ids) for ids in each.ids] for each in answered] == [[3], [3] * 8] * 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_check_says_that_there_is_none(tmp_path, capsys):
    assert gpu_check.main(["--json", str(tmp_path / "found.json")]) == 3
    assert "No GPU found" in (said := capsys.readouterr().err)
    assert "(exit code 3)" in said
    assert f"{sys.executable} ({torch.__version__}, " in said
    assert "PYTHON=" in said
    assert not list(tmp_path.iterdir())


def test_gpu_check_takes_the_python_that_is_named(tmp_path):
    named = tmp_path / "python"
    named.write_text('#!/bin/sh\necho "mine: $*"\n')
    named.chmod(0o755)
    done = subprocess.run(
        ["scripts/gpu-check", "--tiny"],
        env={**os.environ, "PYTHON": str(named)},
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"mine: -m benchmarks.gpu_check --tiny\n"


def test_gpu_check_compares_the_compiled_kernels_that_are_there(monkeypatch, tmp_path):
    ran = []
    monkeypatch.setattr(gpu_check, "_run", lambda command: ran.append(command) or "== 2 passed, 1 skipped ==")
    monkeypatch.setattr(gpu_check.cuda, "missing", lambda kernel: "not installed")
    assert gpu_check.compiled("cuda", False, tmp_path).startswith(
        "not run: no selective_scan: not installed; "
    )
    monkeypatch.setattr(gpu_check.cuda, "missing", lambda kernel: "no nvcc" if kernel == "ssd" else "")
    assert gpu_check.compiled("cpu", False, tmp_path).startswith("not run: ")
    assert not ran
    assert gpu_check.compiled("cuda", False, tmp_path) == "2 passed, 1 skipped; no ssd: no nvcc"
    assert "tests/kernels/test_cuda_adapter.py" in ran[0]


def test_gpu_check_runs_what_is_computed_on_tritons_kernels_too(monkeypatch, tmp_path):
    ran = []
    monkeypatch.setattr(gpu_check, "_run", lambda command: ran.append(command) or "== 2 passed ==")
    assert gpu_check.kernels("cuda", False, tmp_path) == "2 passed"
    assert {"tests/kernels/test_triton.py", "tests/evidence/test_triton.py"} < set(ran[0])
    assert all(Path(each).is_file() for each in ran[0] if each.startswith("tests/"))


def test_gpu_check_runs_the_models_on_triton_too_where_others_are_compiled(monkeypatch, tmp_path):
    ran = []
    monkeypatch.setattr(
        full_size, "whole", lambda name, *, backend, **ways: ran.append((name, backend)) or []
    )
    monkeypatch.setattr(gpu_check.cuda, "missing", lambda kernel: "not installed")
    gpu_check.full_size("cuda", False, tmp_path)
    assert ran == [("cobra-3b", "auto"), ("emma-v2-3b", "auto")]
    monkeypatch.setattr(gpu_check.cuda, "missing", lambda kernel: "" if kernel == "ssd" else "not installed")
    gpu_check.full_size("cuda", False, tmp_path)
    assert ran[2:] == [(name, way) for name in ("cobra-3b", "emma-v2-3b") for way in ("auto", "triton")]


def test_a_stage_that_fails_is_in_the_table_and_the_others_run(monkeypatch, capsys):
    def fails(device, tiny, folder):
        gpu_check._run(["python3", "-c", "import sys; sys.exit('no such card')"])

    monkeypatch.setattr(
        gpu_check, "STAGES", {"one": fails, "two": lambda device, tiny, folder: f"ran on {device}"}
    )
    rows, well = gpu_check.check("cpu", True, None)
    assert not well
    assert [(row["what"], row["said"]) for row in rows] == [
        ("one", "FAILED: no such card"),
        ("two", "ran on cpu"),
    ]
    assert "| two | ran on cpu |" in capsys.readouterr().out


@pytest.mark.slow
def test_a_model_of_made_up_weights_goes_through_all_stages(tmp_path, capsys, caplog):
    full_size.make_files("tiny-emma-v2", tmp_path, torch.float32)
    rows = full_size.run("tiny-emma-v2", tmp_path, device="cpu", dtype="float32")
    assert [row["what"].split(": ")[1] for row in rows] == [
        "load", "record 3 layers", "decode 3 layers", "a recording by its parts, each timed",
        "a layer, of layers 0 – 0", "a layer, of layers 1 – 1", "a layer, of layers 2 – 2", "an image and 16 tokens",
        "a ridge lens of all layers, sums in float64, 4 images and one held out",
        "a ridge lens of all layers, sums in float32, 4 images and one held out",
        "a figure, from a recorded image to a file",
    ]  # fmt: skip
    assert "× the products'" in rows[1]["said"]
    answer = rows[7]["numbers"]
    until, rate = answer["{} s until the first token"], answer["{} tokens a second after it"]
    assert until + 15 / rate == pytest.approx(rows[7]["seconds"], rel=0.2)
    assert answer["{} of that"] == pytest.approx(rate / answer["{} by reading the weights alone"])
    assert "the speed of the passes alone" in rows[8]["said"]
    inside, layers = rows[3], rows[4:7]
    assert {
        "encoders {} s",
        "products {} s",
        "convolution {} s",
        "recurrence {} s",
        "norm and gate {} s",
    } < set(inside["numbers"])
    assert sum(inside["numbers"].values()) == pytest.approx(inside["seconds"])
    assert 0 < sum(row["seconds"] for row in layers) < inside["seconds"]
    assert all(row["numbers"]["peak {} MB so far"] > 0 for row in layers)
    assert f"| {layers[0]['what']} |" in capsys.readouterr().out
    assert "hooks of others" not in caplog.text


def test_runs_of_a_model_are_joined_to_medians_with_their_spread(monkeypatch, tmp_path, capsys):
    runs = [
        [{"what": "load", "seconds": seconds, "numbers": {"peak {} MB": 10 * seconds}}]
        for seconds in (3.0, 1.0, 2.0)
    ]
    (row,) = full_size.joined(runs)
    assert (row["seconds"], row["low"], row["high"], row["rounds"]) == (2.0, 1.0, 3.0, 3)
    assert row["said"] == "peak 20 MB"
    monkeypatch.setattr(full_size, "whole", lambda name, **ways: full_size.joined(runs[: ways["repeats"]]))
    kept = tmp_path / "full.json"
    full_size.main(["--models", "tiny-cobra", "--repeats", "3", "--json", str(kept)])
    assert "| load | 2 s | 1 – 3 | peak 20 MB |" in (said := capsys.readouterr().out)
    assert "torch " in (found := json.loads(kept.read_text()))["machine"]
    assert found["machine"] in said
    assert found["rows"] == [row]


def test_the_parts_of_a_call_leave_out_what_is_inside_another():
    class Work:
        def outer(self):
            self.tick(1)
            self.inner()

        def inner(self):
            self.tick(2)

        def tick(self, seconds):
            nonlocal now
            now += seconds

    now, work = 0.0, Work()
    pieces = {"outer": ((work, "outer"),), "inner": ((work, "inner"),)}

    def call():
        work.outer()
        work.inner()
        work.tick(4)

    assert broken_down(call, pieces=pieces, clock=lambda: now) == (9.0, {"outer": 3.0, "inner": 2.0})
    assert not vars(work)  # nothing of the timing is left


def test_the_gradient_of_a_part_counts_with_it():
    class Tick(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, there, back):
            nonlocal now
            now, ctx.back = now + there, back
            return 2 * x

        @staticmethod
        def backward(ctx, gradient):
            nonlocal now
            now += ctx.back
            return 2 * gradient, None, None

    class Work:
        def outer(self, x, *, other):
            return Tick.apply(self.inner(x), 1, 10) + other, "a state"

        def inner(self, x):
            return Tick.apply(x, 2, 20)

    now, work, x = 0.0, Work(), torch.ones(3, requires_grad=True)
    pieces = {"outer": ((work, "outer"),), "inner": ((work, "inner"),)}

    def call():
        y, _ = work.outer(x, other=Tick.apply(x, 0, 100))
        work.inner(Tick.apply(y, 4, 40)).sum().backward()

    assert broken_down(call, pieces=pieces, clock=lambda: now) == (199.0, {"outer": 33.0, "inner": 22.0})
    assert x.grad.tolist() == [24.0] * 3


@pytest.mark.slow
def test_the_parts_of_a_layer_both_ways_and_of_a_token(monkeypatch, tiny_130m):
    monkeypatch.setattr(parts, "SIZES", dict.fromkeys(("a1", "b", "c"), SMALL))
    for name in ("ROUNDS", "ROUNDS_OF_BOTH"):
        monkeypatch.setattr(parts, name, dict.fromkeys(getattr(parts, name), 5))
    monkeypatch.setattr(parts, "STEPS", 5)
    rows = list(parts.parts())
    ways = {way: [r for r in rows if way in r.what] for way in ("forward at", "backward at", "token")}
    assert [len(ways[way]) for way in ("forward at", "backward at", "token")] == [10, 4, 4]
    for row in rows:
        named = {"convolution", "recurrence", "the rest"}
        named |= {"norms"} if "token" in row.what else {"norm and gate"} if "Mamba-2" in row.what else set()
        shares = dict(each.rsplit(" ", 1) for each in row.note.split(", "))
        assert set(shares) == named
        assert sum(map(float, shares.values())) + 1 == pytest.approx(row.median, rel=0.05)


@pytest.mark.slow
def test_what_is_compiled_has_the_tiles_of_a_launch(tmp_path):
    """With other tiles than ours the kernels take other memory, and the rows say so."""
    pytest.importorskip("triton")
    code = """
from functools import partial
import torch
from benchmarks.speed.compiled import _ssd, shared_bytes
from emma_viz.kernels.triton import ssd
ours = shared_bytes(partial(_ssd, torch.float32, 128), 80)
ssd._FEW_STATES = 128
assert max(shared_bytes(partial(_ssd, torch.float32, 128), 80).values()) > max(ours.values())
"""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_under_tritons_interpreter_nothing_is_compiled(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(RuntimeError, match="nothing is compiled"):
        compiled.shared_bytes(lambda: None, 80)


@pytest.mark.slow
def test_the_triton_kernels_compile_without_a_gpu_and_take_the_memory_that_is_said(tmp_path):
    """In a process of its own: in this one they may be the interpreter's."""
    pytest.importorskip("triton")
    code = """
import json
from benchmarks.speed.compiled import compiled
from emma_viz.kernels.triton import backend
print(json.dumps([[row.record() for row in compiled()], backend._MANY_STATES, backend._SHARED_BYTES]))
"""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    rows, many, said = json.loads(done.stdout)
    assert len(rows) == 9
    assert all(row["rounds"] == len(compiled.TARGETS) for row in rows)
    assert [row["high"] <= compiled.ROOM for row in rows if "(not used)" in row["what"]] == [False]
    assert all(row["met"] is not False for row in rows), [row["what"] for row in rows if row["met"] is False]
    (most,) = [row["high"] for row in rows if "256 states" in row["what"]]
    assert many == 128
    assert most <= said < 1.1 * most


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "forward", "both"), [("mamba1", 6, 6), ("mamba2", 6, 9)])
def test_a_small_layer_is_within_reach_of_its_matrix_products(kind, forward, both):
    """Ratios of CPU time taken in turns, with limits about three times what they are."""
    size = SIZES["a1"]
    mixer = our_mixer(kind, size, "auto")
    x, products = torch.randn(size.batch, size.length, size.width), Products(mixer, size)
    for backward, limit in ((False, forward), (True, both)):
        calls = {
            name: partial(run, each, x, backward) for name, each in (("layer", mixer), ("products", products))
        }
        times = interleaved(calls, rounds=15)
        assert of("", ratios(times, "layer", "products")).median <= limit


@pytest.mark.slow
def test_a_training_step_is_compared_whole_on_mixers_of_the_same_sizes(monkeypatch):
    compared = []

    def keep(task):
        compared.append((task, theirs := on_their_mixers(task)))
        return theirs

    def once(calls, rounds):
        for call in calls.values():
            call()
        return {"ours": [1.0], "theirs": [3.0]}

    on_their_mixers = processes.on_their_mixers
    monkeypatch.setattr(processes, "on_their_mixers", keep)
    monkeypatch.setattr(processes, "interleaved", once)
    tiny = {"emma-v1-pocket": "tiny-emma-v1", "emma-v2-pocket": "tiny-emma-v2"}
    monkeypatch.setattr(processes, "training_recipe", lambda name: training_recipe(tiny[name]))
    rows = list(processes.training())
    assert [row.goal for row in rows] == [8.0, None, 8.0, None]
    assert all("whole training step" in row.what for row in rows[::2])
    assert all("language model alone" in row.what for row in rows[1::2])
    for ours, theirs in compared:
        assert ours.head is not None
        mixers = [type(module) for module in theirs.modules() if "Mixer" in type(module).__name__]
        assert mixers
        assert all(kind.__module__.startswith("transformers.") for kind in mixers)
        sizes = [sum(weight.numel() for weight in task.parameters()) for task in (ours, theirs)]
        assert sizes[0] == sizes[1]
