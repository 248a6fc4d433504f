"""What was seen: merged without a digit's difference, kept through kills, and refused where it is damaged."""

import json
import time
from collections import Counter
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from emma_viz.data import train_tokenizer
from emma_viz.errors import InputError, StudyError
from probes.content.retention import Retention
from probes.examination import Plan, Shard, able, examine, gathered, layers_of
from probes.findings import differences, find
from probes.ledger import GROUPS, Ledger, once
from probes.protocol import Result, Seen
from probes.run import _on_common_images
from probes.subjects import Photo, Photos, Scenes, subjects_of
from probes.table import chosen


def same(a, b):
    """Whether two gathered probes hold the same bits."""
    assert (a.images, a.groups, a.names, set(a.columns), set(a.sums)) == (
        b.images,
        b.groups,
        b.names,
        set(b.columns),
        set(b.sums),
    )
    for own, other in ((a.columns, b.columns), (a.sums, b.sums)):
        for name in own:
            np.testing.assert_array_equal(own[name], other[name])


@pytest.fixture(scope="module")
def whole(tiny, scenes, tmp_path_factory):
    """Retention of the tiny model, in one go."""
    folder = tmp_path_factory.mktemp("whole")
    plan = Plan(subjects=scenes, probes=(Retention(),), folder=folder, quick=True)
    return examine(tiny, plan)["retention"][1]


@pytest.mark.slow
def test_the_sums_of_two_shards_are_those_of_one(tiny, plan, whole):
    seen = [
        examine(tiny, plan(Retention(), shard=Shard(index=index, of=2)))["retention"][1].images
        for index in (1, 2)
    ]
    assert sum(seen) == 6
    assert all(seen)
    asked = []
    _, merged = examine(tiny, plan(Retention()), progress=lambda *step: asked.append(step))["retention"]
    assert not asked  # nothing was left to see
    same(merged, whole)


def test_processes_share_what_is_dear_evenly():
    """What is asked of every fourth or eighth image with --quick must not all fall to one of them."""
    for of in (2, 4, 8, 32):
        parts = [
            [group for group in range(GROUPS) if Shard(index=each, of=of).has(group)]
            for each in range(1, of + 1)
        ]
        assert sorted(group for part in parts for group in part) == list(range(GROUPS))
        for every in (1, 4, 8):
            counts = [sum(group % every == 0 for group in part) for part in parts]
            assert max(counts) - min(counts) <= 1


def test_an_examination_that_was_stopped_goes_on_to_the_same_numbers(tiny, plan, whole):
    _, part = examine(tiny, plan(Retention(), deadline=time.monotonic()))["retention"]
    assert 0 < part.images < 6
    _, found = examine(tiny, plan(Retention()))["retention"]
    same(found, whole)


def test_what_is_large_is_kept_of_each_groups_first_batch_alone(unchecked):
    ledger, large = Ledger(), np.arange(6, dtype=np.float32).reshape(2, 3)
    for number, first in enumerate((True, False, False)):
        seen = Seen(sums=once(SimpleNamespace(first=first), {"rows": large + number}))
        ledger.add(0, [2 * number, 2 * number + 1], seen)
    _, sums = ledger.joined()
    assert sums["rows"].dtype == np.float32
    np.testing.assert_array_equal(sums["rows"], large[None])


@pytest.mark.parametrize(
    ("columns", "sums", "said"),
    [
        ({"a": np.zeros(3)}, {"b": np.zeros(4)}, "one row for each of 2 images"),
        ({"a": np.zeros(())}, {"b": np.zeros(4)}, "one row for each of 2 images"),
        (
            {"a": np.zeros((2, 3))},
            {"b": np.zeros(4)},
            r"columns need the same .*a: then \[\(\)\], now \[\(3,\)\]",
        ),
        ({}, {"b": np.zeros(4)}, r"columns need the same .*now \['none'\]"),
        ({"a": np.zeros(2)}, {"b": np.zeros(5)}, r"sums need the same .*b: then \[\(4,\)\], now \[\(5,\)\]"),
        ({"a": np.zeros(2)}, {"b": np.zeros(1)}, "sums need the same"),
        ({"a": np.zeros(2)}, {"b": np.zeros(4), "c": np.zeros(4)}, "sums need the same .*c: then"),
    ],
)
def test_a_batch_that_is_not_like_those_before_is_refused_whole(columns, sums, said):
    ledger = Ledger()
    ledger.add(0, [0, 1], Seen(columns={"a": np.ones(2)}, sums={"b": np.ones(4)}))
    with pytest.raises(StudyError, match=said):
        ledger.add(0, [2, 3], Seen(columns=columns, sums=sums))
    ledger.add(0, [2, 3], Seen(columns={"a": np.ones(2)}, sums={"b": np.ones(4)}))
    assert ledger.done == {0: 2}
    assert {name: each.tolist() for name, each in ledger.joined()[0].items()} == {
        "number": [0, 1, 2, 3],
        "a": [1.0, 1.0, 1.0, 1.0],
    }


@pytest.mark.parametrize("count", [1, 31, 33, 64, 95, 100, 300])
def test_first_batches_of_groups_are_of_one_size(unchecked, count):
    plan, met = Plan(subjects=range(count), probes=(), folder=Path()), set()
    for group, numbers in plan.batches():
        assert (numbers.start < GROUPS * plan.size) == (group not in met)
        assert group in met or len(numbers) == plan.size
        met.add(group)


@pytest.mark.parametrize("count", [33, 63, 95, 300])
@pytest.mark.parametrize("by_group", [False, True])
def test_every_image_is_in_one_batch_and_a_groups_batches_are_in_their_order(unchecked, count, by_group):
    plan, met = Plan(subjects=range(count), probes=(), folder=Path(), by_group=by_group), {}
    for group, numbers in plan.batches():
        met.setdefault(group, []).extend(numbers)
    assert sorted(number for each in met.values() for number in each) == list(range(count))
    assert all(each == sorted(each) for each in met.values())
    half = plan.batches()[: len(plan.batches()) // 2]
    whole = dict(Counter(group for group, _ in plan.batches()))
    partial = [group for group, seen in Counter(group for group, _ in half).items() if seen < whole[group]]
    assert len(partial) <= 1 or not by_group


def test_two_models_that_are_far_apart_share_the_groups_that_both_have_seen_whole(unchecked, tiny):
    plan = Plan(subjects=Scenes(63), probes=(), folder=Path(), by_group=True)

    def seen(batches):
        ledger = Ledger()
        for group, numbers in plan.batches()[:batches]:
            ledger.add(group, numbers, Seen(columns={"a": np.array(numbers, float)}))
        return ledger, gathered(ledger, tiny.info, plan, (-1,))

    slow, fast = _on_common_images([seen(20), seen(52)], plan)
    assert (slow.images, slow.groups) == (20, 10)
    same(slow, fast)
    with pytest.raises(StudyError, match=r"images that both models saw, got none.*same command again"):
        _on_common_images([seen(1), seen(52)], plan)


def test_damaged_and_foreign_files_are_named(tiny, plan):
    mine = plan(Retention())
    examine(tiny, mine)
    (file,) = mine.folder.iterdir()
    with pytest.raises(StudyError, match="another images"):
        examine(tiny, replace(mine, subjects=Scenes(5)))
    data = file.read_bytes()
    for damaged in (data[: len(data) // 2], b"", data[:2000] + bytes(200) + data[2200:]):
        file.write_bytes(damaged)
        with pytest.raises(StudyError, match=r"retention\.all\.npz"):
            examine(tiny, mine)


def test_a_model_differs_from_itself_by_exactly_nothing(whole):
    measures = Retention().measures(whole)
    for each in differences(measures, measures):
        assert (each.over.value, each.over.low, each.over.high) == (0, 0, 0)
        assert "exactly the same" in each.sentence
    found = [each.measure for each in find(measures)]
    assert [each.layer for each in found if each.name == "retention.r2"] == list(whole.layers)


def test_what_another_version_saw_is_refused_in_a_sentence(tiny, plan):
    """Also one from before versions were written."""
    mine = plan(Retention(), subjects=Scenes(1))
    examine(tiny, mine)
    (file,) = mine.folder.iterdir()
    with np.load(file) as arrays:
        kept = dict(arrays)
    meta = json.loads(kept["meta"].tobytes())
    for program in ("0123456789abcdef", None):
        meta["about"]["program"] = program
        if program is None:
            del meta["about"]["program"]
        np.savez(file, **{**kept, "meta": np.frombuffer(json.dumps(meta).encode(), np.uint8)})
        with pytest.raises(StudyError, match=r"another program.*name another folder"):
            examine(tiny, mine)


def test_what_the_same_weights_gave_in_another_way_is_refused_in_a_sentence(tiny, loud, plan):
    """The fingerprint is of the weights alone: not of their type, what is drawn, image encoder or tokenizer."""
    mine = plan(Retention(), subjects=Scenes(1))
    examine(tiny, mine)
    encoder = deepcopy(tiny.vlm)
    with torch.no_grad():
        next(encoder.vision.parameters()).add_(1)
    tokenizer = train_tokenizer(["a cup on a table"], vocab_size=258, phrases=["cup"])
    for other, said in (
        (replace(tiny, info=replace(tiny.info, dtype="bfloat16")), "dtype"),
        (replace(tiny, info=replace(tiny.info, part="thumbnail")), "part"),
        (replace(tiny, info=replace(tiny.info, grid=(1, 16))), "grid"),
        (replace(tiny, vlm=encoder), "image encoder"),
        (replace(tiny, tokenizer=tokenizer), "tokenizer"),
    ):
        with pytest.raises(StudyError, match=rf"another {said} \(then .*name another folder"):
            examine(other, mine)
    both = replace(mine, folder=mine.folder / "both", other=tiny)
    examine(loud, both)
    with pytest.raises(StudyError, match="another dtype of the other model"):
        examine(loud, replace(both, other=replace(tiny, info=replace(tiny.info, dtype="float16"))))


def test_probes_that_need_more_than_the_images_have_are_left_out(photos):
    class Masks(Retention):
        def needs(self):
            return replace(super().needs(), labels=True, pairs=True)

    some = Photos([Photo(path=path, prompt="What is it?") for path in photos], said="two")
    kept, said = able([Retention(), Masks()], some)
    assert [type(each) for each in kept] == [Retention]
    assert "masks" in said[0]
    assert "twins" in said[0]


def test_an_image_that_is_asked_about_several_times_is_one_image(tmp_path):
    """POPE asks six times about each; a copy under another name is the same image too."""
    for name, value in (("a", 10), ("b", 200), ("c", 90)):
        Image.new("RGB", (8, 8), (value, 0, 0)).save(tmp_path / f"{name}.png")
    (tmp_path / "copy.png").write_bytes((tmp_path / "a.png").read_bytes())
    asked = [("a", "1?"), ("a", "2?"), ("copy", "3?"), ("b", "4?"), ("b", "5?"), ("c", "6?")]
    records = tmp_path / "pope.json"
    records.write_text(json.dumps([{"image": f"{name}.png", "question": text} for name, text in asked]))
    found = subjects_of(records, count=256)
    assert [found.take(number).prompt for number in range(len(found))] == ["1?", "4?", "6?"]
    assert found.names == ("a.png", "b.png", "c.png")
    assert found.said.startswith("3 of 6 records in pope.json (of each image the first; 3 were")
    few = subjects_of(records, count=2)
    assert [few.take(number).prompt for number in range(len(few))] == ["1?", "4?"]
    records.unlink()
    assert subjects_of(tmp_path, count=256).names == ("a.png", "b.png", "c.png")
    (tmp_path / "copy.png").unlink()
    assert subjects_of(tmp_path, count=256).said == f"3 images in {tmp_path.name}"
    assert subjects_of(tmp_path, count=2).said == f"2 of 3 images in {tmp_path.name}"


def test_layers_are_spread_over_a_deep_model():
    assert layers_of(4, None) == (-1, 0, 1, 2, 3)
    deep = layers_of(64, None)
    assert (deep[0], deep[1], deep[-1], len(deep)) == (-1, 0, 63, 17)
    assert layers_of(64, (3,)) == (-1, 3)
    assert layers_of(64, ("all", 5)) == tuple(range(-1, 64))
    with pytest.raises(InputError, match="64"):
        layers_of(64, (64,))
    for index, of in ((0, 2), (3, 2), (1, GROUPS + 1)):
        with pytest.raises(InputError, match="shard"):
            Shard(index=index, of=of)


def test_a_probe_in_one_file_of_the_users_own_is_run(tiny, plan):
    (probe,) = chosen([str(Path(__file__).with_name("toy_probe.py"))])
    _, found = examine(tiny, plan(probe, subjects=Scenes(2)))["loudness"]
    findings = find(probe.measures(found))
    assert [each.measure.layer for each in findings] == [-1, 0, 1, 2]
    assert all(each.number.low <= each.number.value <= each.number.high for each in findings)
    assert probe.plots([Result(gathered=found, findings=findings)])[0].title == "Length by layer"


def test_a_probe_of_ones_own_that_was_edited_does_not_go_on_from_what_the_old_one_saw(tiny, plan, tmp_path):
    text = Path(__file__).with_name("toy_probe.py").read_text(encoding="utf-8")
    for folder in ("one", "two"):  # two files of one name are two files
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(text, encoding="utf-8")
    file, other = tmp_path / "one" / "mine.py", tmp_path / "two" / "mine.py"
    (before,), _ = chosen([str(file)]), chosen([str(other)])
    file.write_text(text.replace(".mean(dim=-1)", ".amax(dim=-1)"), encoding="utf-8")
    mine = plan(before, subjects=Scenes(1))
    examine(tiny, mine)  # what was loaded before the file was edited
    with pytest.raises(StudyError, match=r"another file of the probe .*name another folder"):
        examine(tiny, replace(mine, probes=chosen([str(file)])))
    file.write_text(text, encoding="utf-8")
    asked = []
    examine(tiny, replace(mine, probes=chosen([str(file)])), progress=lambda *step: asked.append(step))
    assert not asked  # nothing was left to see


def test_a_file_that_holds_another_files_probe_counts_by_its_own_words(tiny, plan, tmp_path):
    file, text = tmp_path / "mine.py", "from tests.probes.toy_probe import PROBE as Loud\n\nPROBE = Loud()\n"
    file.write_text(text, encoding="utf-8")
    mine = plan(*chosen([str(file)]), subjects=Scenes(1))
    file.write_text(f"{text}PROBE.loud = 2\n", encoding="utf-8")
    examine(tiny, mine)
    with pytest.raises(StudyError, match="another file of the probe"):
        examine(tiny, replace(mine, probes=chosen([str(file)])))


def test_what_is_no_probe_is_refused(tmp_path):
    file = tmp_path / "mine.py"
    for text, said in (("", "under the name PROBE"), ("PROBE = 3", "expected a probe")):
        file.write_text(text)
        with pytest.raises(InputError, match=said):
            chosen([str(file)])
    for names, said in ((["missing.py"], "Python file"), (["retention", "retention"], "named once")):
        with pytest.raises(InputError, match=said):
            chosen(names)
