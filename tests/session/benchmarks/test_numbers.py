"""A run's numbers, against re-implementations that were written apart from ours after the published scores."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, roc_auc_score

from emma_viz.records.answered import AnsweredRecord as Record
from emma_viz.records.answered import RunAbout
from emma_viz.records.benchmarks import BenchmarkRecord, benchmark
from emma_viz.records.scorers import Answer
from emma_viz.session.benchmarks.judging import judged
from emma_viz.session.benchmarks.run import finish

MODELS = ("one", "two")
SAID = ("yes", "No, none.", "Yes", "no", "Yes, it is.", "Not visible.", "maybe", "", "YES")


def answered(record, answers, by="pope", kind=None):
    models = tuple(
        judged(record, answer, name=name, fingerprint="", by=by, kind=kind)
        for name, answer in zip(MODELS, answers, strict=True)
    )
    return Record(record=record, prompt=record.question, image=record.image, image_sha256=None, models=models)


def run(tmp_path, name, records, scorers):
    about = RunAbout(benchmark=name, scorers=scorers, models=MODELS, images="", records=len(records))
    finish(tmp_path, about, records)
    return {table["name"]: table for table in json.loads((tmp_path / "table.json").read_text())["tables"]}


def rows(table):
    """(part, model) or model → column → value."""
    heads = table["columns"]
    return {
        tuple(row[: heads.index("model") + 1]): dict(zip(heads, row, strict=True)) for row in table["rows"]
    }


@pytest.fixture(scope="module")
def pope():
    """Three splits that share their positives: 20 images, one question of each kind; one label is disputed."""
    draw = np.random.default_rng(0)
    records = []
    for split in ("random", "popular", "adversarial"):
        for image in range(20):
            for truth in ("yes", "no"):
                name = "cup" if truth == "yes" else f"{split}-thing"
                record = BenchmarkRecord(
                    benchmark="pope", split=split, id=f"{image}{truth}", asked="yes-no", image=f"{image}.jpg",
                    question=f"Is there a {name}?", truth=truth,
                    flags=("disputed",) if (image, truth) == (3, "yes") else (),
                )  # fmt: skip
                seed = np.random.default_rng([image, len(name)])
                answers = [
                    Answer(
                        text=str(seed.choice(SAID)),
                        p_yes=float(seed.random() / 2),
                        p_no=float(seed.random() / 2),
                    )
                    for _ in MODELS
                ]
                records.append(answered(record, answers))
    draw.shuffle(records)
    return records


@pytest.fixture(scope="module")
def tables(pope, tmp_path_factory):
    """The folder of its run, and the tables."""
    folder = tmp_path_factory.mktemp("pope")
    return folder, run(folder, "pope", pope, ("pope", "lmms-eval", "cobra"))


def official(pairs):
    """evaluate.py of POPE, to the letter: accuracy, precision, recall, F1, yes ratio."""
    pos = tp = fp = tn = fn = 0
    for truth, text in pairs:
        if text.find(".") != -1:
            text = text.split(".")[0]
        words = text.replace(",", "").split(" ")
        no = "No" in words or "not" in words or "no" in words
        pos += not no
        tp += not no and truth == "yes"
        fp += not no and truth == "no"
        tn += no and truth == "no"
        fn += no and truth == "yes"
    precision, recall = tp / (tp + fp), tp / (tp + fn)
    f1 = 2 * precision * recall / (precision + recall)
    return (tp + tn) / len(pairs), precision, recall, f1, pos / len(pairs)


def test_popes_numbers_are_the_official_ones_by_split(pope, tables):
    found = rows(tables[1]["verdicts"])
    names = ("accuracy", "precision", "recall", "F1", "yes rate")
    expected = {}
    for split in ("random", "popular", "adversarial"):
        for number, model in enumerate(MODELS):
            some = [each for each in pope if each.record.split == split]
            expected[split, model] = official([(e.record.truth, e.models[number].answer) for e in some])
            got = [found[split, model][name]["value"] for name in names]
            np.testing.assert_allclose(got, expected[split, model], atol=1e-5)
            truth = [e.record.truth == "yes" for e in some]
            lean = [e.models[number].p_yes / (e.models[number].p_yes + e.models[number].p_no) for e in some]
            assert found[split, model]["AUROC"]["value"] == pytest.approx(
                roc_auc_score(truth, lean), abs=1e-5
            )
            assert found[split, model]["AUPRC"]["value"] == pytest.approx(
                average_precision_score(truth, lean), abs=1e-5
            )
    for model in MODELS:
        mean = [found["mean over splits", model][name]["value"] for name in names]
        each = [expected[split, model] for split in ("random", "popular", "adversarial")]
        np.testing.assert_allclose(mean, np.mean(each, axis=0), atol=1e-5)
    # 20 shared positives and 60 negatives of their own; without the one that is disputed.
    assert [found[part, "one"]["rows"] for part in ("all", "all without disputed labels")] == [80, 79]
    assert found["random", "always no"]["accuracy"]["value"] == 0.5
    assert all(
        row["accuracy"]["low"] <= row["accuracy"]["value"] <= row["accuracy"]["high"]
        for row in found.values()
    )


def test_intervals_draw_images_and_not_rows(pope, tmp_path):
    """Rows that say the same twice are no more sure than said once."""
    some = [each for each in pope if each.record.split == "random"]
    doubled = [
        *some,
        *(
            replace(e, record=replace(e.record, id=f"{e.record.id}b", question=f"{e.record.question} b"))
            for e in some
        ),
    ]
    widths = []
    for name, records in (("once", some), ("twice", doubled)):
        (tmp_path / name).mkdir()
        number = rows(run(tmp_path / name, "pope", records, ("pope",))["verdicts"])["all", "one"]["accuracy"]
        widths.append(number["high"] - number["low"])
    assert widths[0] == pytest.approx(widths[1])
    assert widths[0] > 0


def test_disagreements_are_listed_whole_beside_the_table(pope, tables):
    folder, found = tables
    listed = list(csv.DictReader(io.StringIO((folder / "disagreements.csv").read_text())))
    wanted = {
        (model, each.record.split, each.record.id)
        for each in pope
        for number, model in enumerate(MODELS)
        if len({word(each.models[number]) for word in (official_word, lmms_word, cobra_word)}) > 1
    }
    assert {(row["model"], row["split"], row["id"]) for row in listed} == wanted
    assert len(found["disagreements"]["rows"]) == len(wanted) > 20
    shown = (folder / "table.md").read_text().split("## Rows that scorers read differently")[1]
    assert shown.count("Is there a") == 20


def official_word(said):
    words = said.answer.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def lmms_word(said):
    text = said.answer.lower().strip()
    return text if text in ("yes", "no") else "neither"


def cobra_word(said):
    return "yes" if said.p_yes >= said.p_no else "no"


def test_differences_and_their_tests_are_of_the_rows_that_one_alone_has_right(pope, tables):
    found = tables[1]["differences"]
    by_part = {row[0]: dict(zip(found["columns"], row, strict=True)) for row in found["rows"]}
    for split in ("random", "popular"):
        some = [each for each in pope if each.record.split == split]
        right = [[each.models[n].correct for each in some] for n in range(2)]
        only = [sum(a and not b for a, b in zip(*pair, strict=True)) for pair in (right, right[::-1])]
        row = by_part[split]
        assert [row["first alone right"], row["second alone right"]] == only
        assert row["McNemar p"]["value"] == pytest.approx(binomtest(only[0], sum(only)).pvalue, abs=1e-5)
        assert row["accuracy"]["value"] == pytest.approx((only[0] - only[1]) / len(some), abs=1e-5)
        assert row["McNemar p (Holm)"]["value"] >= row["McNemar p"]["value"]


def test_hallusionbench_counts_rows_figures_and_pairs(tmp_path):
    draw = np.random.default_rng(1)
    records = []
    for topic in range(6):
        for figure in range(3):
            for question in range(2):
                pair = f"VS/chart/{topic}/{question}"
                shown = figure > 0
                groups = [("question pair", pair)] + (
                    [("figure", f"VS/chart/{topic}/{figure}")] if shown else []
                )
                record = BenchmarkRecord(
                    benchmark="hallusionbench", split="VS", id=f"{topic}/{figure}/{question}", asked="yes-no",
                    question="Q?", image=f"{topic}_{figure}.png" if shown else None,
                    truth=str(draw.choice(["yes", "no"])),
                    groups=tuple(groups), cluster=f"VS/chart/{topic}",
                )  # fmt: skip
                texts = [str(draw.choice(["Yes.", "No.", "Unclear."], p=[0.45, 0.45, 0.1])) for _ in MODELS]
                records.append(answered(record, [Answer(text=text) for text in texts], "hallusionbench-rule"))
    found = rows(run(tmp_path, "hallusionbench", records, ("hallusionbench-rule",))["groups"])

    def right(each, number):
        said = each.models[number].answer.lower().rstrip(".")
        return (each.record.image is None) if said == "unclear" else said == each.record.truth

    for number, model in enumerate(MODELS):
        figures, pairs, single = {}, {}, []
        for each in records:
            topic, figure, question = each.record.id.split("/")
            good = right(each, number)
            single.append(good)
            pairs.setdefault((topic, question), []).append(good)
            if figure != "0":
                figures.setdefault((topic, figure), []).append(good)
        a, f, q = (np.mean([all(group) for group in groups]) for groups in (
            [[good] for good in single], figures.values(), pairs.values()
        ))  # fmt: skip
        row = found["all", model]
        assert [row[f"all right by {kind}"]["value"] for kind in ("row", "figure", "question pair")] == [
            pytest.approx(value, abs=1e-5) for value in (a, f, q)
        ]
        assert row["mean of these"]["value"] == pytest.approx((a + f + q) / 3, abs=1e-5)
        assert (row["figures"], row["question pairs"]) == (12, 12)


def test_mme_sums_accuracy_and_accuracy_by_image(tmp_path):
    draw = np.random.default_rng(2)
    records = []
    for task, category in (
        ("existence", "perception"),
        ("count", "perception"),
        ("code_reasoning", "cognition"),
    ):
        for image in range(10):
            for number, truth in enumerate(("yes", "no")):
                record = BenchmarkRecord(
                    benchmark="mme", split=task, id=f"{image}-{number}", asked="yes-no", question="Q?",
                    image=f"{task}{image}.png", truth=truth, category=category,
                    groups=(("image", f"{task}/{image}"),),
                )  # fmt: skip
                texts = [str(draw.choice(["Yes", "No", "I know not"])) for _ in MODELS]
                records.append(answered(record, [Answer(text=text) for text in texts], "mme"))
    table = run(tmp_path, "mme", records, ("mme",))["mme"]

    def said(text):
        start = text.lower()[:4]
        return "yes" if "yes" in start else "no" if "no" in start else "other"

    for number, row in enumerate(table["rows"]):
        totals = {"perception": 0.0, "cognition": 0.0}
        for task, category in (
            ("existence", "perception"),
            ("count", "perception"),
            ("code_reasoning", "cognition"),
        ):
            good = [
                said(e.models[number].answer) == e.record.truth for e in records if e.record.split == task
            ]
            both = [a and b for a, b in zip(good[::2], good[1::2], strict=True)]
            totals[category] += 100 * (np.mean(good) + np.mean(both))
        assert row[0] == MODELS[number]
        assert row[2]["value"] == pytest.approx(totals["perception"], abs=1e-4)
        assert row[4]["value"] == pytest.approx(totals["cognition"], abs=1e-4)


def test_amber_and_chair_count_made_up_objects(tmp_path):
    kind = benchmark("amber")
    texts = (
        ("A dog and a cat sit near a tree.", "A dog."),
        ("Nothing.", "A boat, a boat and a car."),
        ("A car on a road.", "Trees and cats."),
    )
    truths = ((("dog", "tree"), ("cat",)), (("boat",), ("car",)), (("road", "tree"), ("car", "cat")))
    records = [
        answered(
            BenchmarkRecord(
                benchmark="amber",
                split="generative",
                id=str(number),
                asked="description",
                question="Describe.",
                image=f"{number}.jpg",
                present=present,
                absent=absent,
            ),
            [Answer(text=text) for text in said],
            "amber",
            kind,
        )
        for number, (said, (present, absent)) in enumerate(zip(texts, truths, strict=True))
    ]
    yes_no = [
        answered(
            BenchmarkRecord(
                benchmark="amber",
                split="existence",
                id=f"q{number}",
                asked="yes-no",
                question=f"Q{number}?",
                image=f"{number % 3}.jpg",
                truth=truth,
            ),
            [Answer(text=text) for text in said],
            "amber",
            kind,
        )
        for number, (truth, said) in enumerate(
            (("no", ("No", "No")), ("no", ("Yes", "No")), ("yes", ("No", "Yes")), ("no", ("no", "No")))
        )
    ]
    tables = run(tmp_path, "amber", [*records, *yes_no], ("amber",))
    found = rows(tables["descriptions"])
    one, two = (
        [
            found[(model,)][head]["value"]
            for head in found[(model,)]
            if isinstance(found[(model,)][head], dict)
        ]
        for model in MODELS
    )
    # one: dog, cat*, tree | – | car*, road; two: dog | boat, boat, car* | tree, cat*.
    np.testing.assert_allclose(one[:4], [2 / 5, 2 / 3, 3 / 5, 2 / 5], atol=1e-5)
    np.testing.assert_allclose(two[:4], [2 / 6, 2 / 3, 3 / 5, 2 / 6], atol=1e-5)
    # F1 of “no”, exactly said: one 2·1/(2+3), two 1.
    scores = [row[1]["value"] for row in tables["amber"]["rows"]]
    np.testing.assert_allclose(scores, [50 * (1 - 2 / 5 + 2 / 5), 50 * (1 - 2 / 6 + 1)], atol=1e-3)
    assert records[0].models[0].made_up == ("cat",)
    assert records[2].models[0].missed == ("tree",)


def test_a_run_without_a_single_positive_divides_by_nothing(tmp_path):
    record = BenchmarkRecord(
        benchmark="pope", split="random", id="1", asked="yes-no", question="Q?", image="a.jpg", truth="no"
    )
    found = rows(run(tmp_path, "pope", [answered(record, [Answer(text="no")] * 2)], ("pope",))["verdicts"])
    assert found["all", "one"]["accuracy"]["value"] == 1
    assert found["all", "one"]["precision"]["value"] is None
    assert found["all", "one"]["AUROC"]["value"] is None
    assert r"\begin{tabular}" in (tmp_path / "table.tex").read_text()
