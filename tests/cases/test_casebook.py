"""A casebook through its public surface, on SQLite and on PostgreSQL."""

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emma_viz.cases import opening
from emma_viz.cases.case import KNOCK_OUT, PRESENCE, CaseAnswer, CaseRecord, MeasuredEvidence
from emma_viz.cases.casebook import Added, Casebook
from emma_viz.cases.filters import SORTS, AnswerFilter, CaseFilter, EvidenceFilter
from emma_viz.cases.pictures import case_picture
from emma_viz.errors import CasebookError, CaseConflictError, EmmaVizError, ImageError, InputError


def answer(model="cobra", said="yes", p_yes=None, right=None, **more):
    odds = {} if p_yes is None else {"p_yes": p_yes, "p_no": 1 - p_yes}
    return CaseAnswer(model=model, text=f"{said.title()}.", said=said, right=right, **odds, **more)


def record(row="0", *answers, truth="yes", **more):
    given = {"prompt": f"Is there a cup in image {row}?", "benchmark": "pope", "split": "random", **more}
    return CaseRecord(row=row, truth=truth, object="cup", answers=answers, **given)


def two() -> list[CaseRecord]:
    return [
        record("0", answer("cobra", "no", 0.05, right=False), answer("emma", "yes", 0.8, right=True)),
        record(
            "1", answer("cobra", "no", 0.4, right=True), answer("emma", "no", 0.3, right=True), truth="no"
        ),
    ]


def test_what_is_added_comes_back(casebook):
    given = record(
        "7",
        answer(
            "cobra",
            "no",
            0.25,
            right=False,
            scorer="pope",
            fingerprint="ab",
            beside="cd",
            study="/s",
            entry="e",
            sample=3,
        ),
        answer("emma", "", made_up=("dog", "cat"), missed=("cup",)),
        image="0" * 64,
        image_name="a é 📷.jpg",
        present=("cup", "cat"),
        absent=("dog",),
        box=(1, 2, 30, 40),
        category="existence",
        flags=("disputed",),
        evidence=(MeasuredEvidence(name=PRESENCE, model="cobra", layer=-1, value=0.5, control=0.25),),
    )
    assert casebook.add([given]) == Added(cases=1, answers=2, replaced=0)
    found = casebook.case(given.identity)
    assert found.record == given
    assert (found.version, found.history, found.review.verdict) == (0, (), "")
    assert casebook.add([given]) == Added(cases=0, answers=0, replaced=0)


def test_a_question_gets_the_answers_that_it_lacks_and_keeps_what_was_replaced(casebook):
    casebook.add([record("0", answer("cobra", "no"))])
    assert casebook.add([record("0", answer("emma", "yes"))]) == Added(cases=0, answers=1, replaced=0)
    changed = CaseAnswer(model="cobra", text="Yes, a cup.", said="yes")
    assert casebook.add([record("0", changed)]) == Added(cases=0, answers=1, replaced=1)
    found = casebook.case(record("0").identity)
    assert {each.model: each.text for each in found.record.answers} == {
        "cobra": "Yes, a cup.",
        "emma": "Yes.",
    }
    assert [(event.kind, event.value) for event in found.history] == [("answer", "cobra: No.")]
    assert found.version == 1


def test_one_name_is_one_model(casebook):
    casebook.add([record("0", answer("cobra", fingerprint="aa"))])
    with pytest.raises(InputError, match="weights aa and bb"):
        casebook.add([record("1", answer("cobra", fingerprint="bb"))])
    with pytest.raises(InputError, match="weights"):
        casebook.add([record("2", answer("x", fingerprint="1")), record("3", answer("x", fingerprint="2"))])
    assert casebook.count() == 1


def test_one_name_is_one_encoder_and_tokenizer(casebook):
    """As far as that is known: answers of before say nothing of it."""
    casebook.add([record("0", answer("cobra", fingerprint="aa"))])
    casebook.add([record("1", answer("cobra", fingerprint="aa", beside="cc"))])
    with pytest.raises(InputError, match="two: image encoder and tokenizer cc and dd"):
        casebook.add([record("2", answer("cobra", fingerprint="aa", beside="dd"))])
    casebook.add([record("2", answer("emma", fingerprint="aa", beside="dd"))])
    assert casebook.count() == 3


def test_what_becomes_known_to_be_beside_the_weights_is_no_new_answer(casebook):
    """Nor is it lost to an answer that does not know it."""
    unknown, known = (answer("cobra", "no", 0.25, fingerprint="aa", beside=mark) for mark in ("", "cc"))
    casebook.add([record("0", unknown), record("1", unknown)])
    id = record("0").identity
    for given, kept in ((unknown, unknown), (known, known), (unknown, known), (known, known)):
        assert casebook.add([record("0", given)]) == Added(cases=0, answers=0, replaced=0)
        found = casebook.case(id)
        assert (found.record.answers, found.history, found.version) == ((kept,), (), 0)
    assert casebook.case(record("1").identity).record.answers == (unknown,)
    casebook.add([record("1", known)], replace=False)
    assert casebook.case(record("1").identity).record.answers == (known,)
    assert (
        casebook.add([record("0", answer("cobra", "yes", 0.75, fingerprint="aa", beside="cc"))]).replaced == 1
    )


def test_the_miner_looks_at_answers_and_evidence(casebook):
    casebook.add(two())
    first, second = (casebook.case(each) for each in casebook.ids())
    assert first.reasons == {
        "models-disagree": ("cobra", "emma"),
        "one-right-one-wrong": ("cobra", "emma"),
        "confident-and-wrong": ("cobra",),
    }
    assert not second.reasons
    saw = [MeasuredEvidence(name=PRESENCE, model="cobra", layer=3, value=0.9, control=0.5)]
    casebook.keep_evidence(second.id, "cobra", recipe="r", document={"a": [1, None]}, measured=saw)
    assert casebook.case(second.id).reasons == {"saw-and-did-not-say": ("cobra",)}
    assert casebook.evidence(second.id) == {"cobra": ("r", {"a": [1, None]})}
    casebook.keep_evidence(second.id, "cobra", recipe="s", document={}, measured=[])
    assert not casebook.case(second.id).reasons
    with pytest.raises(InputError, match="emma"):
        casebook.keep_evidence(second.id, "emma", recipe="", document={}, measured=saw)
    with pytest.raises(CasebookError, match="no case"):
        casebook.keep_evidence("0" * 32, "cobra", recipe="", document={}, measured=[])


def test_filters(casebook):
    casebook.add(
        [*two(), record("2", answer("cobra", "unparsed"), benchmark="mme", split="", category="count")]
    )
    zero, one, other = casebook.ids()
    measured = MeasuredEvidence(name=KNOCK_OUT, model="cobra", layer=2, value=0.5, control=1.0)
    above = MeasuredEvidence(name=KNOCK_OUT, model="emma", layer=2, value=1.5, control=1.0)
    casebook.keep_evidence(one, "cobra", recipe="", document={}, measured=[measured])
    casebook.keep_evidence(one, "emma", recipe="", document={}, measured=[above])
    casebook.write(zero, "note", "50 % of_it \\ is odd", author="Ana")
    casebook.write(one, "tag", "to show", author="Ana")
    casebook.write(one, "verdict", "miss", author="Ana")
    for wanted, found in (
        (CaseFilter(), [zero, one, other]),
        (CaseFilter(benchmark="pope"), [zero, one]),
        (CaseFilter(category="count"), [other]),
        (CaseFilter(truth="no"), [one]),
        (CaseFilter(mined=True), [zero]),
        (CaseFilter(rule="models-disagree"), [zero]),
        (CaseFilter(verdict="miss"), [one]),
        (CaseFilter(verdict="none"), [zero, other]),
        (CaseFilter(tags=("to show",)), [one]),
        (CaseFilter(tags=("to show", "not there")), []),
        (CaseFilter(text="IMAGE 1"), [one]),
        (CaseFilter(text="% of_it \\"), [zero]),
        (CaseFilter(text="50%"), []),
        (CaseFilter(text="unparsed."), [other]),
        (CaseFilter(answers=(AnswerFilter(model="cobra", said="no"),)), [zero, one]),
        (CaseFilter(answers=(AnswerFilter(right=False),)), [zero]),
        (CaseFilter(answers=(AnswerFilter(least_confidence=0.75),)), [zero]),
        (CaseFilter(answers=(AnswerFilter(said="yes"), AnswerFilter(said="no"))), [zero]),
        (CaseFilter(evidence=(EvidenceFilter(name=KNOCK_OUT),)), [one]),
        (CaseFilter(evidence=(EvidenceFilter(name=KNOCK_OUT, at_least=2.0),)), []),
        (CaseFilter(evidence=(EvidenceFilter(name=KNOCK_OUT, layer=2, at_most=1.0),)), [one]),
        (CaseFilter(evidence=(EvidenceFilter(name=KNOCK_OUT, beats_control=True),)), [one]),
        (CaseFilter(evidence=(EvidenceFilter(name=KNOCK_OUT, model="cobra", beats_control=True),)), []),
        (CaseFilter(evidence=(EvidenceFilter(name=KNOCK_OUT, model="cobra", beats_control=False),)), [one]),
        (CaseFilter(sort="newest"), [one, zero, other]),
        (CaseFilter(sort="surest-mistake"), [zero, one, other]),
        (CaseFilter(sort="gap"), [zero, one, other]),
    ):
        assert casebook.ids(wanted) == found, wanted
        assert casebook.count(wanted) == len(found)
        assert casebook.page(wanted, start=1, count=1) == (found[1:2], len(found))
    assert casebook.ids(start=1, count=1) == [one]
    assert [each.row for each in casebook.records(CaseFilter(benchmark="pope"))] == ["0", "1"]
    facets = casebook.facets()
    assert facets["model"] == {"cobra": 3, "emma": 2}
    assert facets["benchmark"] == {"pope": 2, "mme": 1}
    assert facets["split"] == {"random": 2}
    assert facets["tag"] == {"to show": 1}
    assert facets["verdict"] == {"miss": 1}
    assert facets["rule"] == {"models-disagree": 1, "one-right-one-wrong": 1, "confident-and-wrong": 1}
    assert facets["measure"] == {KNOCK_OUT: 1}


@pytest.mark.parametrize("sort", SORTS)
def test_every_order_is_of_all_cases_and_the_same_again(casebook, sort):
    casebook.add([record(str(row), answer("cobra", "no"), answer("emma", "yes", 0.5)) for row in range(5)])
    found = casebook.ids(CaseFilter(sort=sort))
    assert sorted(found) == sorted(casebook.ids())
    assert found == casebook.ids(CaseFilter(sort=sort))


@pytest.mark.parametrize(
    "wrong", [{"verdict": "yes"}, {"sort": "size"}, {"text": "a\0b"}, {"text": "x" * 501}]
)
def test_a_filter_that_is_none_is_refused(wrong):
    with pytest.raises(InputError):
        CaseFilter(**wrong)


def test_a_history_only_grows_and_all_can_be_undone(casebook):
    casebook.add([record()])
    (id,) = casebook.ids()
    one = casebook.write(id, "verdict", "miss", author="Ana", version=0)
    two = casebook.write(id, "verdict", "label", author="Bo", version=1)
    assert (two.review.verdict, two.version) == ("label", 2)
    back = casebook.write(id, "undo", two.history[-1].id, author="Ana", version=2)
    assert back.review.verdict == "miss"
    again = casebook.write(id, "undo", back.history[-1].id, author="Ana", version=3)
    assert again.review.verdict == "label"
    assert casebook.ids(CaseFilter(verdict="label")) == [id]
    assert [event.kind for event in again.history] == ["verdict", "verdict", "undo", "undo"]
    assert again.history[0] == one.history[0]
    with pytest.raises(InputError, match="undone already"):
        casebook.write(id, "undo", back.history[-1].id, author="Ana")
    with pytest.raises(InputError, match="written into this case"):
        casebook.write(id, "undo", "0" * 32, author="Ana")
    casebook.write(id, "tag", "odd", author="Ana")
    casebook.write(id, "tag", "odd", author="Bo")
    tagged = casebook.write(id, "note", "Look at the handle.", author="Bo")
    assert (tagged.review.tags, [note.value for note in tagged.review.notes]) == (
        ("odd",),
        ["Look at the handle."],
    )
    assert casebook.write(id, "untag", "odd", author="Bo").review.tags == ()
    assert casebook.ids(CaseFilter(tags=("odd",))) == []


@pytest.mark.parametrize(
    ("kind", "value", "author", "said"),
    [
        ("verdict", "maybe", "Ana", "verdicts hallucination"),
        ("note", "  ", "Ana", "note of 1"),
        ("tag", "x" * 81, "Ana", "got 81"),
        ("note", "a\0", "Ana", "character zero"),
        ("note", "a", " ", "white space"),
        ("note", "a", "", "author"),
    ],
)
def test_what_cannot_be_written_is_refused_and_nothing_is(casebook, kind, value, author, said):
    casebook.add([record()])
    (id,) = casebook.ids()
    with pytest.raises(InputError, match=said):
        casebook.write(id, kind, value, author=author)
    assert casebook.case(id).version == 0


def test_who_saw_an_older_case_is_told_and_loses_nothing(casebook):
    casebook.add([record()])
    (id,) = casebook.ids()
    casebook.write(id, "verdict", "miss", author="Ana", version=0)
    with pytest.raises(CaseConflictError, match="Ana wrote verdict 'miss'"):
        casebook.write(id, "verdict", "label", author="Bo", version=0)
    assert casebook.case(id).review.verdict == "miss"
    assert casebook.write(id, "verdict", "label", author="Bo", version=1).review.verdict == "label"


def test_many_writers_lose_nothing(address):
    with Casebook.open(address) as first:
        first.add([record()])
        (id,) = first.ids()
    failures = []

    def write(name: str) -> None:
        try:
            with Casebook.open(address) as own:
                for number in range(8):
                    own.write(id, "note", f"{name} {number}", author=name)
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not failures
    with Casebook.open(address) as last:
        found = last.case(id)
    assert found.version == 32
    for name in "abcd":
        assert [event.value for event in found.history if event.author == name] == [
            f"{name} {n}" for n in range(8)
        ]
    assert len({event.at for event in found.history}) == 32


def at_once(*work) -> list[Exception]:
    """Do things at the same time, each in a thread of its own; returns what went wrong."""
    together, failures = threading.Barrier(len(work), timeout=60), []

    def run(each) -> None:
        together.wait()
        try:
            each()
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(each,)) for each in work]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return failures


def test_programs_that_mine_the_same_run_beside_one_that_measures_lose_nothing(address):
    pictures = [case_picture(Image.new("RGB", (8, 8), (number, 0, 0))) for number in range(20)]
    measured = {"name": PRESENCE, "model": "cobra", "layer": 3, "value": 0.9, "control": 0.5}
    evidence = (MeasuredEvidence(**measured),)
    records = [record(str(row), answer("cobra", "no"), evidence=evidence) for row in range(60)]

    def mine() -> None:
        for picture in pictures:
            mining.keep_picture(picture)
        mining.add(records)

    def mine_too() -> None:
        for picture in pictures:
            mining_too.keep_picture(picture)
        mining_too.add(records)

    def measure() -> None:
        for each in records[:30]:
            measuring.keep_evidence(each.identity, "cobra", recipe="r", document={}, measured=evidence)

    with Casebook.open(address) as mining, Casebook.open(address) as mining_too:
        assert at_once(mine, mine_too) == []
        assert mining.count() == 60
        records = [record(str(row), answer("emma", "yes"), evidence=evidence) for row in range(120)]
        with Casebook.open(address) as measuring:
            assert at_once(mine, mine_too, measure) == []
        assert mining.count() == 120
        assert {len(each.answers) for each in mining.records()} == {1, 2}
        assert all(mining.has_picture(each.hash) for each in pictures)


def test_of_two_who_add_one_name_with_two_weights_at_once_the_second_is_refused(address):
    with Casebook.open(address) as one, Casebook.open(address) as other:

        def adding(book, weights):
            rows = [record(f"{weights} {row}", answer(fingerprint=weights)) for row in range(100)]
            return lambda: book.add(rows)

        (failure,) = at_once(adding(one, "aa"), adding(other, "bb"))
        assert isinstance(failure, InputError)
        assert "to be one model" in str(failure)
        assert one.count() == 100


def test_threads_of_one_casebook_write_in_turn_however_long_the_line(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "PATIENCE", 0.01)  # how long another program is waited for
    with Casebook.open(tmp_path / "cases.db") as book:
        book.add([record()])
        (id,) = book.ids()
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda number: book.write(id, "note", str(number), author="Ana"), range(48)))
        assert {event.value for event in book.case(id).history} == {str(number) for number in range(48)}


def test_many_who_open_an_empty_database_make_its_tables_once(address):
    failures, opened = [], []

    def open_it() -> None:
        try:
            with Casebook.open(address) as own:
                opened.append(own.count())
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert (failures, opened) == ([], [0] * 4)


def test_pictures_are_kept_once_and_as_they_came(casebook, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (400, 500, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    picture = case_picture(tmp_path / "a.png")
    assert picture.content == Path(tmp_path / "a.png").read_bytes()
    casebook.keep_picture(picture)
    casebook.keep_picture(picture)
    assert casebook.picture(picture.hash) == picture
    assert casebook.picture("0" * 64) is None
    assert list(casebook.thumbnails([picture.hash, "0" * 64])) == [picture.hash]
    assert len(picture.thumbnail) < len(picture.content)


@pytest.mark.parametrize("name", ["a.bmp", "turned.jpg", "grey.png", "clear.png"])
def test_what_a_browser_would_show_otherwise_becomes_a_png(tmp_path, name):
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    more = {}
    if name == "turned.jpg":
        exif = Image.Exif()
        exif[0x0112] = 6
        more = {"exif": exif}
    if name == "grey.png":
        pixels = pixels.convert("L")
    if name == "clear.png":
        pixels.putalpha(100)
    pixels.save(tmp_path / name, **more)
    picture = case_picture(tmp_path / name)
    assert picture.media_type == "image/png"
    assert (picture.width, picture.height) == ((20, 30) if name == "turned.jpg" else (30, 20))
    (tmp_path / "kept.png").write_bytes(picture.content)
    assert case_picture(tmp_path / "kept.png").hash == picture.hash


def test_what_is_no_image_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ImageError):
        case_picture(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("change", "look"),
    [
        ("UPDATE casebook_cases SET present = 'no list'", lambda book: book.records()),
        ("UPDATE casebook_cases SET present = 'null'", lambda book: book.records()),
        ("UPDATE casebook_cases SET box = '[1]'", lambda book: book.cases(book.ids())),
        (
            "UPDATE casebook_pictures SET media_type = 'text/html\"><script>'",
            lambda book: book.picture("0" * 64),
        ),
        ("UPDATE casebook_pictures SET content = x'00'", lambda book: book.picture("0" * 64).image()),
        ("UPDATE casebook_evidence SET document = '[['", lambda book: book.evidence(book.ids()[0])),
    ],
)
def test_what_another_program_has_changed_in_a_file_is_a_sentence(tmp_path, change, look):
    with Casebook.open(tmp_path / "cases.db") as book:
        book.add([record("0", answer())])
        small = case_picture(Image.new("RGB", (4, 4)))
        book.keep_picture(replace(small, hash="0" * 64))
        book.keep_evidence(book.ids()[0], "cobra", recipe="r", document={}, measured=[])
        look(book)
    with sqlite3.connect(tmp_path / "cases.db") as connection:
        connection.execute(change)
    connection.close()
    with Casebook.open(tmp_path / "cases.db") as book, pytest.raises(EmmaVizError):
        look(book)
