"""The service behind the page: runs, questions about them, saving, refusals."""

import base64
import io
import json
import threading
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

from apps.explorer.news import News
from apps.explorer.offer import Settings
from apps.explorer.page.widgets import study_side
from apps.explorer.service import Service
from apps.explorer.state import Images
from apps.explorer.uploads import NOT_YOURS
from emma_viz import __version__
from emma_viz.capture import record
from emma_viz.data import image_hash, read_image
from emma_viz.evidence.attribution import attribute
from emma_viz.evidence.logit_lens import logit_lens
from emma_viz.render.recipe import recipe_in
from emma_viz.render.sidecar import from_json
from emma_viz.session import Asking, capture, compare_study, decode_study
from tests.apps.conftest import bring
from tests.data.test_image_files import wide_profile


def test_a_run_tells_news_and_ends_with_a_result(service, photos):
    secret = service.sessions.open(service.uploads.visitor())
    news = list(
        service.ask(
            secret, bring(service, secret, photos[0]), "What is it?", ["cobra", "emma"], "ridge", "", 6
        )
    )
    assert [each["stage"] for each in news[:-1]] == ["busy"] * (len(news) - 1)
    run = service.sessions.get(secret).run
    assert news[-1] == {"session": secret, "ask": 0, "stage": "ready", "run": run}
    sent = service.payload(news[-1])
    json.dumps(sent, allow_nan=False)
    trace = record(service.models.get("cobra"), str(photos[0]), "What is it?", max_new_tokens=6)
    assert sent["models"][0]["answer"] == trace.answers[0]
    assert "".join(sent["models"][0]["words"]) == trace.answers[0]
    assert sent["asked"]["image"] == image_hash(read_image(photos[0]))
    assert [model["name"] for model in sent["models"]] == ["cobra", "emma"]


def test_an_answer_is_told_while_it_grows(service, photos, monkeypatch):
    told = threading.Semaphore(0)

    def at_leisure(*arguments, on_token, **more):
        def hear(sample, token):
            while told.acquire(blocking=False):
                pass
            on_token(sample, token)
            told.acquire(timeout=20)

        return record(*arguments, on_token=hear, **more)

    monkeypatch.setattr("emma_viz.session.road.record", at_leisure)
    secret, seen = service.sessions.open(service.uploads.visitor()), set()
    for news in service.ask(
        secret, bring(service, secret, photos[0]), "What is it?", ["cobra"], "ridge", "", 12
    ):
        seen |= {model["answer"] for model in news.get("models", ())}
        told.release()
    answer = service.payload(news)["models"][0]["answer"]
    parts = {text for text in seen if text and len(text) < len(answer)}
    assert len(parts) >= 3
    assert all(answer.startswith(part.rstrip("\ufffd")) for part in parts)


def test_questions_need_the_session_that_ran(service, ready):
    other = {**ready, "session": service.sessions.open()}
    for name, more in (
        ("payload", {}),
        ("words", {"places": [0, 0]}),
        ("attribute", {"model": 0, "word": 0}),
        ("save", {"format": "zip"}),
    ):
        assert "no longer kept" in getattr(service, name)({**other, **more})["error"]
        assert "reload" in getattr(service, name)({**more})["error"]


def test_words_are_the_logit_lens(service, ready):
    reply = service.words({**ready, "places": [3, None]})
    assert reply["models"][1] is None
    result = service.sessions.result(ready["session"], ready["run"])
    layers = result.comparison.decodings[0].layers
    assert len(reply["models"][0]) == len(layers)
    states = result.traces[0]["resid_post", layers[-1]][0, 3][None]
    (expected,) = logit_lens(service.models.get("cobra"), states, count=4)
    texts, shares = zip(*reply["models"][0][-1], strict=True)
    assert list(texts) == [each.text for each in expected]
    assert shares == pytest.approx([each.probability for each in expected], rel=1e-4)
    for places in ([-1, 0], [10**9, 0], ["0", 0], [0]):
        assert "error" in service.words({**ready, "places": places})


def test_a_word_is_explained_for_every_model(service, ready, photos):
    result = service.sessions.result(ready["session"], ready["run"])
    index = len(result.words[0]) - 1
    reply = service.attribute({**ready, "model": 0, "word": index})
    assert reply["method"] == "gradient × input"
    word = result.words[0][index]
    said = result.traces[0].answer_ids[0]
    mine = attribute(
        service.models.get("cobra"),
        read_image(photos[0]),
        "What is it?",
        before=said[: word.start],
        word=said[word.start : word.stop],
    )
    found = np.frombuffer(base64.b64decode(reply["models"][0]), "<f4")
    np.testing.assert_allclose(found, mine.values.ravel(), rtol=1e-4, atol=1e-7)
    assert reply["scores"][0] == pytest.approx(mine.score, rel=1e-4)
    assert len(reply["models"]) == len(reply["judged"]) == 2
    assert all(each.endswith("39 random sets") for each in reply["judged"])
    assert reply["weak"] == any(each.startswith("does not") for each in reply["judged"])
    assert "no such word" in service.attribute({**ready, "model": 0, "word": 999})["error"]
    assert "no such word" in service.attribute({**ready, "model": -1, "word": 0})["error"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "begins"),
    [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF"), ("html", b"<!doctype html>")],
)
def test_the_view_is_saved(service, ready, form, begins):
    view = {
        "format": form,
        "layers": [1, 1],
        "kind": "distance",
        "scale": "per_map",
        "colours": "magma",
        "difference": True,
        "look": {"layer": "1", "colours": "magma", "prompt": "</script>"},
    }
    reply = service.save({**ready, **view})
    content = base64.b64decode(reply["data"])
    assert content[: len(begins)].lower() == begins.lower()
    assert reply["name"].endswith(f".{form}")


def test_the_study_is_saved_whole_and_opens_again(service, ready, tmp_path):
    reply = service.save({**ready, "format": "zip"})
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(reply["data"]))) as file:
        file.extractall(tmp_path)
    again = compare_study(tmp_path / "study")
    result = service.sessions.result(ready["session"], ready["run"])
    for mine, theirs in zip(result.comparison.decodings, again.decodings, strict=True):
        np.testing.assert_array_equal(mine.patches, theirs.patches)
    assert again.image_names == result.comparison.image_names
    folders = service.settings.models.values()
    (decoded, _) = decode_study(tmp_path / "study", lenses=[f"{folder}/ridge.lens" for folder in folders])
    np.testing.assert_allclose(decoded.patches, result.comparison.decodings[0].patches, atol=1e-5)


@pytest.mark.slow
def test_a_link_in_a_study_is_never_sent(pair, photos, service, tmp_path):
    capture(photos, pair.models, tmp_path / "study", running=service.settings.running)
    decode_study(tmp_path / "study", lenses=[pair.cobra / "ridge.lens", pair.emma / "ridge.lens"])
    shown = Service(Settings(study=tmp_path / "study"), {})
    (tmp_path / "private.txt").write_text("private")
    folder = next(path for path in (tmp_path / "study").iterdir() if path.is_dir() and path.name != ".locks")
    try:
        news = shown.show(shown.sessions.open(), 0)
        whole = shown.save({**news, "format": "zip"})
        for target in (tmp_path / "private.txt", tmp_path):
            (folder / "more").symlink_to(target)
            reply = shown.save({**news, "format": "zip"})
            with zipfile.ZipFile(io.BytesIO(base64.b64decode(reply["data"]))) as file:
                assert not any("more" in name or "private" in name for name in file.namelist())
            assert len(reply["data"]) == len(whole["data"])
            (folder / "more").unlink()
    finally:
        shown.close()


def test_calls_of_wrong_types_are_refused_without_a_traceback(service, ready, caplog):
    for name, wrong in (
        ("payload", {"run": "1"}), ("payload", {"session": 7}), ("payload", {"run": None}), ("words", {"places": 7}),
        ("words", {"places": ["0", 0]}), ("attribute", {}), ("attribute", {"model": "0", "word": 0}),
        ("attribute", {"model": 10**19, "word": 0}), ("save", {}), ("save", {"format": 7}),
        ("save", {"format": "png", "layers": "x"}), ("save", {"format": "html", "look": {"a": {}}}),
    ):  # fmt: skip
        assert getattr(service, name)({**ready, **wrong})["error"]
    assert not caplog.records


def test_files_of_forgotten_images_go(offer, examples):
    made = Service(offer(), examples)
    try:
        made.images = Images(examples, keep=1)
        for number in range(3):
            image = Image.new("RGB", (8, 8), (number, 0, 0))
            made.images.add(f"{number:064x}", f"image {number}", image)
            assert made.file_of(f"{number:064x}").is_file()
        kept = {path.name for path in made.uploads.images.glob("*/*")}
        assert kept == {"image 2.png"}
        assert made.file_of(f"{0:064x}") is None
    finally:
        made.close()


def test_wrong_formats_and_options_are_refused(service, ready):
    assert "png, svg" in service.save({**ready, "format": "exe"})["error"]
    assert "error" in service.save({**ready, "format": "png", "kind": "magic"})
    assert "error" in service.save({**ready, "format": "png", "colours": "../x"})


def bomb() -> bytes:
    """A PNG of 20000 × 20000 pixels in a few hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    header = (20000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def test_what_is_no_image_is_refused_with_a_sentence(service, ask, photos, tmp_path):
    files = {
        "bomb.png": (bomb(), "pixels"),
        "note.png": (b"hello", "not an image"),
        "empty.jpg": (b"", "empty"),
    }
    for name, (content, words) in files.items():
        (tmp_path / name).write_bytes(content)
        news = ask(tmp_path / name)
        assert news["stage"] == "error"
        assert words in news["message"]
        assert str(tmp_path) not in news["message"]  # a visitor learns nothing of the server's folders
    whole = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(whole, "PNG")
    (tmp_path / "cut.png").write_bytes(whole.getvalue()[:-40])
    assert "cut" in ask(tmp_path / "cut.png")["message"]
    secret = service.sessions.open(service.uploads.visitor())
    assert service.refusal(secret, bring(service, secret, tmp_path / "bomb.png")).startswith("bomb")
    assert service.refusal(secret, bring(service, secret, photos[0])) is None
    assert "Bring an image" in ask(None)["message"]


def test_a_path_that_was_not_uploaded_gets_one_sentence_whatever_is_there(service, ask, photos, tmp_path):
    (tmp_path / "note.txt").write_text("hello")
    (tmp_path / "link.png").symlink_to(photos[0])
    wrong = (
        photos[0],
        tmp_path,
        tmp_path / "gone.png",
        tmp_path / "note.txt",
        tmp_path / "link.png",
        "/etc/passwd",
        "x",
    )
    secret = service.sessions.open(service.uploads.visitor())
    said = {ask(str(path), raw=True)["message"] for path in wrong} | {
        service.refusal(secret, str(path)) for path in wrong
    }
    assert said == {NOT_YOURS}
    other = service.sessions.open(service.uploads.visitor())
    theirs = bring(service, other, photos[0])
    assert service.refusal(secret, theirs) == NOT_YOURS
    assert service.refusal(other, theirs) is None
    handed_out = service.file_of(service.examples[0])
    assert service.refusal(secret, str(handed_out)) is None


def test_files_beyond_the_limit_are_refused(ask, tmp_path, monkeypatch, photos):
    monkeypatch.setattr("apps.explorer.uploads.MAX_BYTES", 10)
    assert "MB" in ask(photos[0])["message"]


def test_questions_that_make_no_sense_are_refused(ask, photos):
    assert "Write a prompt" in ask(photos[0], prompt="  ")["message"]
    assert "characters" in ask(photos[0], prompt="x" * 3000)["message"]
    assert "Choose one" in ask(photos[0], models=())["message"]
    assert "no model" in ask(photos[0], models=("../secret",))["message"]
    assert "no lens" in ask(photos[0], lens="/etc/passwd")["message"]
    assert ask(photos[0], site="nowhere")["stage"] == "error"
    assert "reload" in ask(str(photos[0]), secret="guess", raw=True)["message"]


def test_another_site_is_decoded_by_force_and_says_so(service, ask, photos):
    news = ask(photos[0], site="mixer_out")
    sent = service.payload(news)
    assert all(model["site"] == "mixer_out" and model["forced"] for model in sent["models"])


def test_of_several_lenses_each_model_takes_the_first_it_has(pair, offer, examples, ask, photos):
    both = Service(offer(lenses={"tuned, else ridge": ("tuned", "ridge"), "tuned": ("tuned",)}), examples)
    try:
        assert ask(photos[0], on=both, lens="tuned, else ridge")["stage"] == "ready"
        refused = ask(photos[0], on=both, lens="tuned")["message"]
        assert "No tuned lens of the weights" in refused
        assert "tuned.lens" in refused
        assert str(pair.cobra.parent) not in refused
    finally:
        both.close()


def test_a_failing_model_leaves_the_service_alive(service, ask, photos, monkeypatch, caplog):
    def fail(*_args, **_kwargs):
        raise RuntimeError("kernel /secret/path exploded")

    with monkeypatch.context() as patch:
        patch.setattr("emma_viz.session.road.record", fail)
        news = ask(photos[0])
    assert news["stage"] == "error"
    assert "RuntimeError" in news["message"]
    assert "secret" not in news["message"]
    assert "exploded" in caplog.text
    assert ask(photos[0])["stage"] == "ready"


@pytest.mark.slow
def test_many_sessions_at_once_lose_nothing_and_mix_nothing(service, ask, tmp_path):
    def one(number: int):
        image = Image.fromarray(np.full((20, 24, 3), number * 12, np.uint8))
        path = tmp_path / f"visitor{number}.png"
        image.save(path)
        news = ask(path, prompt=f"Question {number}?", tokens=3)
        return number, image_hash(image), service.payload(news)

    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(one, range(20)))
    for number, digest, sent in replies:
        assert sent["image"]["name"] == f"visitor{number}"
        assert sent["image"]["hash"] == digest
        assert sent["prompt"] == f"Question {number}?"


def test_a_run_that_nobody_waits_for_stops(service, photos):
    secret = service.sessions.open(service.uploads.visitor())
    with service.models.running:  # the run cannot begin
        news = service.ask(secret, bring(service, secret, photos[0]), "What?", ["cobra"], "ridge", "", 200)
        next(news)
        next(news)
        news.close()
    for thread in threading.enumerate():
        if thread.name == "explorer-run":
            thread.join(30)
    assert not service.sessions.get(secret).results


def test_a_study_is_shown_without_models(pair, photos, service, tmp_path):
    capture(photos, pair.models, tmp_path / "study", running=service.settings.running)
    lenses = [pair.cobra / "ridge.lens", pair.emma / "ridge.lens"]
    decode_study(tmp_path / "study", lenses=lenses)
    shown = Service(Settings(study=tmp_path / "study"), {})
    try:
        secret = shown.sessions.open()
        news = shown.show(secret, 1)
        sent = shown.payload(news)
        assert sent["image"]["name"] == photos[1].name
        assert sent["models"][0]["live"] is False
        expected = compare_study(tmp_path / "study").decodings[0].answers[1]
        assert sent["models"][0]["answer"] == expected
        assert "models" in shown.words({**news, "places": [0, 0]})["error"]
        assert "models" in shown.attribute({**news, "model": 0, "word": 0})["error"]
        assert "questions 0 to 1" in shown.show(secret, 7)["message"]
        assert shown.save({**news, "format": "png", "layers": [0, 0]})["name"].endswith(".png")
        assert len(shown.thumbnails()) == 2
    finally:
        shown.close()
    assert not shown.folder.exists()


def test_the_gallery_of_a_study_has_a_picture_for_each_question(pair, photos, service, tmp_path):
    prompts = ["What is this?", "Which colour is it?"]
    capture(photos, [pair.cobra], tmp_path / "study", prompts=prompts, running=service.settings.running)
    decode_study(tmp_path / "study", lenses=[pair.cobra / "ridge.lens"])
    shown = Service(Settings(study=tmp_path / "study"), {})
    try:
        secret, captions = shown.sessions.open(), [name for _, name in shown.thumbnails()]
        sent = [shown.payload(shown.show(secret, index)) for index in range(len(captions))]
        assert captions == [f"{each['image']['name']}: {each['prompt']}" for each in sent]
        assert {(each["image"]["name"], each["prompt"]) for each in sent} == {
            (photo.name, prompt) for photo in photos for prompt in prompts
        }
        for index, each in enumerate(sent):  # what a link names is found again
            assert shown.study.number_of(each["asked"]["image"], each["asked"]["prompt"]) == index
        assert shown.study.number_of(sent[-1]["image"]["hash"]) == shown.study.number_of(
            sent[-1]["image"]["hash"], "Else?"
        )
        assert shown.study.number_of("no such image") == 0
    finally:
        shown.close()


def test_runs_do_not_pile_up(service, ask, photos):
    secret = service.sessions.open(service.uploads.visitor())
    before = len(service.sessions)
    for _ in range(5):
        assert ask(photos[0], secret=secret, tokens=2)["stage"] == "ready"
    assert len(service.sessions) == before
    assert len(service.sessions.get(secret).results) == 1  # of one question
    kept = [each.size for _, session in service.sessions._kept.items() for each in session.results.values()]
    assert sum(kept) < 50_000_000
    assert not torch.is_grad_enabled() or all(
        parameter.grad is None for parameter in service.models.get("cobra").vlm.parameters()
    )


def test_a_model_that_fails_does_not_take_the_others_results(service, ask, photos, monkeypatch):
    load = service.models.get

    def get(label, progress=None):
        if label == "cobra":
            raise RuntimeError("kernel /secret/path exploded")
        return load(label, progress)

    monkeypatch.setattr(service.models, "get", get)
    news = ask(photos[0])
    assert news["stage"] == "ready"
    sent = service.payload(news)
    assert [model["name"] for model in sent["models"]] == ["emma"]
    assert [each["name"] for each in sent["failed"]] == ["cobra"]
    assert "secret" not in sent["failed"][0]["message"]
    assert sent["asked"]["models"] == ("cobra", "emma")
    assert "error" not in service.words({**news, "places": [1]})
    assert "error" not in service.attribute({**news, "model": 0, "word": 0})
    assert ask(photos[0], models=("cobra",))["stage"] == "error"


def test_every_question_of_a_study_has_a_picture_as_far_as_the_page_says(
    pair, photos, service, tmp_path, monkeypatch
):
    capture(
        photos[0], [pair.cobra], tmp_path / "study", prompts=[f"{number}?" for number in range(61)], batch_size=61,
        asking=Asking(max_new_tokens=1), running=service.settings.running,
    )  # fmt: skip
    decode_study(tmp_path / "study", lenses=[pair.cobra / "ridge.lens"])
    shown = Service(Settings(study=tmp_path / "study"), {})

    def side() -> tuple[str, int]:
        gradio = Mock()
        study_side(gradio, shown)
        return gradio.HTML.call_args.args[0], len(gradio.Gallery.call_args.kwargs["value"])

    try:
        title, pictures = side()
        assert pictures == 61
        assert "61 questions. Choose one:" in title
        monkeypatch.setattr("apps.explorer.service.MOST_PICTURES", 7)
        title, pictures = side()
        assert pictures == 7
        assert "61 questions. Choose one of the first 7, or end this page's address with #image=" in title
        (named,) = (tmp_path / "study" / "images").iterdir()
        assert shown.study.number_of(named.stem, "60?") == 60
    finally:
        shown.close()


def test_what_is_stopped_says_no_error_and_what_waits_never_begins(service, photos):
    secret = service.sessions.open(service.uploads.visitor())
    question = (bring(service, secret, photos[0]), "What?", ["cobra"], "ridge", "", 8)
    *_, kept = service.ask(secret, *question, 1)
    assert (kept["stage"], kept["ask"]) == ("ready", 1)
    with service.models.running:  # a run has begun and cannot go on, another waits in the queue
        first = service.ask(secret, *question, 2)
        assert next(first)["stage"] == "busy"
        assert service.stop({"session": secret, "ask": 3}) == {}
        assert [(news["stage"], news["ask"]) for news in first] == [
            ("none", 2)
        ]  # at once, not at its next word
    assert [news["stage"] for news in service.ask(secret, *question, 3)] == ["none"]
    assert "error" not in service.payload(kept)  # what is on the page can still be asked about
    *_, last = service.ask(secret, *question, 4)
    assert (last["stage"], last["run"]) == ("ready", kept["run"] + 1)
    assert service.stop({"session": secret, "ask": 4}) == {}  # too late
    assert "error" not in service.payload(last)
    assert "error" in service.stop({"session": secret, "ask": "4"})
    assert "ended" in service.stop({"session": "nobody", "ask": 4})["error"]


def test_a_run_of_no_session_ends_in_a_sentence(service):
    (news,) = service.ask("nobody", None, "What?", ["cobra"], "ridge", "", 8, 5)
    assert (news["stage"], news["ask"]) == ("error", 5)
    assert "reload the page" in news["message"]


def test_reloads_of_a_link_share_one_result(service, ask, photos):
    shared = set()
    for _ in range(5):
        secret = service.sessions.open(service.uploads.visitor())
        question = (bring(service, secret, photos[0]), "Shared?", ["cobra"], "ridge", "", 8)
        *_, news = service.ask(secret, *question, linked=True)
        shared.add(id(service.sessions.result(secret, news["run"])))
    assert len(shared) == 1
    *_, news = service.ask(secret, *question)  # who presses Run gets a new one
    assert id(service.sessions.result(secret, news["run"])) not in shared
    *_, news = service.ask(secret, question[0], "Shared?", ["cobra"], "ridge", "", 16, linked=True)
    assert id(service.sessions.result(secret, news["run"])) not in shared


def test_a_knock_out_tells_how_far_it_is_and_is_stopped_between_two_steps(pair, offer, examples, photos):
    made = Service(offer(method="knockout"), examples)
    try:
        secret = made.sessions.open(made.uploads.visitor())
        *_, news = made.ask(secret, bring(made, secret, photos[0]), "What?", ["cobra"], "ridge", "", 4)
        seen = []
        say = News.say

        def stopping(self, done, total, message):
            if message == "measuring":
                seen.append(made.progress({"session": secret}))
                assert made.cancel({"session": secret}) == {}
            say(self, done, total, message)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(News, "say", stopping)
            assert "stopped" in made.attribute({**news, "model": 0, "word": 0})["error"]
        assert seen
        assert made.progress({"session": secret}) == {"done": 0, "total": 0}
        assert "error" not in made.attribute({**news, "model": 0, "word": 0})
    finally:
        made.close()


def test_a_saved_page_keeps_what_was_on_the_page(service, ready):
    evidence = service.attribute({**ready, "model": 0, "word": 0})
    look = {"layer": "1", "kind": "cosine", "scale": "per_row", "patch": "3", "word": "0,0"}
    view = {
        "format": "html",
        "layers": [1, 0],
        "kind": "cosine",
        "scale": "per_row",
        "colours": "magma",
        "look": look,
    }
    page = base64.b64decode(service.save({**ready, **view})["data"]).decode()
    assert evidence["models"][0] in page
    foot = page[page.index("<footer>") : page.index("</footer>")]
    for words in (
        "each model",
        "layer cobra 1, emma 0",
        "Patch: row 0, column 3; cosine to the true patch: cobra ",
        "of cobra, gradient × input: cobra at most ",
        " nats for a token (row ",
        "up to 6 tokens",
    ):
        assert words in foot
    assert __version__ in foot
    assert "one colour scale for all models and layers" not in foot
    (case,) = from_json(recipe_in(page.encode(), "the page")).images
    kept = case.kept
    for model, packed, score in zip(case.models, evidence["models"], evidence["scores"], strict=True):
        assert model.evidence.tobytes() == base64.b64decode(packed)
        assert model.score == pytest.approx(score)
    assert case.word.endswith("of cobra, gradient × input")
    picture = service.save({**ready, **view, "format": "svg"})
    drawn = base64.b64decode(picture["data"]).decode()
    for name in ("cobra", "emma"):
        assert f'id="evidence/{case.title}/{name}"' in drawn
    one = service.sessions.result(ready["session"], ready["run"]).comparison.decodings[0].geometry[0]
    left, top, right, bottom = one.token_boxes()[3]
    width, height = one.image_size
    assert kept == pytest.approx((left / width, top / height, right / width, bottom / height))
    plain = base64.b64decode(service.save({**ready, **view, "look": {}})["data"]).decode()
    assert from_json(recipe_in(plain.encode(), "the page")).images[0].word is None
    assert evidence["models"][0] not in plain


def test_a_colour_profile_is_said_on_the_page_or_converted_and_a_link_says_it_again(
    service, photos, tmp_path
):
    path = tmp_path / "wide.png"
    with Image.open(photos[0]) as photo:
        photo.convert("RGB").save(path, icc_profile=wide_profile())
    secret = service.sessions.open(service.uploads.visitor())
    question = ("What?", ["cobra"], "ridge", "", 2)
    *_, news = service.ask(secret, bring(service, secret, path), *question)
    ignored = service.payload(news)
    (note,) = [text for text in ignored["notes"] if "colour profile" in text]
    assert note.startswith("wide.png: ")
    assert "“Convert the colour profile”" in note
    assert "--" not in note
    page = base64.b64decode(service.save({**news, "format": "html", "layers": [0]})["data"]).decode()
    assert "its colour profile" in page[page.index("<footer>") :]
    *_, again = service.ask(secret, str(service.file_of(ignored["image"]["hash"])), *question)
    assert note in service.payload(again)["notes"]
    *_, news = service.ask(secret, bring(service, secret, path), *question, convert=True)
    converted = service.payload(news)
    assert converted["image"]["hash"] != ignored["image"]["hash"]
    assert not any("is ignored" in text for text in converted["notes"])
