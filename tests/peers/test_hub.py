"""Hub ids of models that transformers' classes run: what is fetched, and what is said without a network."""

import shutil

import huggingface_hub.constants
import pytest

from emma_viz.checkpoints import load_model
from emma_viz.checkpoints.hub_models import PEER_FILES
from emma_viz.errors import CheckpointError
from emma_viz.session import Running
from emma_viz.session.loading import load, require_loadable
from tests.peers.checkpoints import write

pytestmark = pytest.mark.slow  # the package's models take seconds to import

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "someone/tiny-llava-hf"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("written") / "tiny"
    write("llava", path)
    return path


@pytest.fixture
def snapshot(tmp_path, monkeypatch, folder):
    """The folder as a download leaves it in the cache; there is no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    place = tmp_path / f"models--{REPO.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(COMMIT)
    shutil.copytree(folder, place / "snapshots" / COMMIT)
    return place / "snapshots" / COMMIT


def test_a_cached_repository_is_the_folder(snapshot, folder):
    model, plain = load_model(REPO), load_model(folder)
    assert (model.name, model.info.source, model.info.revision) == ("tiny-llava-hf", REPO, COMMIT)
    assert model.info.fingerprint == plain.info.fingerprint
    assert require_loadable(REPO, Running())[1].info == model.info
    assert load(REPO, Running(vision_source="elsewhere")).info == model.info


def test_what_is_not_in_the_cache_is_refused_with_what_to_do(snapshot):
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors.* not in the local cache.*hf download someone/tiny"
    ):
        load_model(REPO)
    with pytest.raises(
        CheckpointError,
        match=r"config\.json of someone/other is not in the local cache, nor .* folder someone/other here",
    ):
        load_model("someone/other")


def test_files_are_fetched_by_name_from_one_commit_and_none_of_them_is_code(snapshot, monkeypatch):
    asked = []

    def download(repo, filename, *, revision, local_files_only):
        asked.append((repo, filename, revision))
        path = snapshot / filename
        if not path.exists():
            raise huggingface_hub.errors.EntryNotFoundError(filename)
        return str(path)

    (snapshot / "modeling_tiny.py").write_text("raise AssertionError")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert load_model(REPO, revision="v1").info.revision == COMMIT
    assert {repo for repo, _, _ in asked} == {REPO}
    assert {revision for _, name, revision in asked if name != "config.json"} == {COMMIT}
    assert {revision for _, name, revision in asked if name == "config.json"} == {"v1"}
    names = {name for _, name, _ in asked}
    assert {"config.json", "tokenizer.json", "model.safetensors", "chat_template.jinja"} <= names
    assert not [name for name in names if name.endswith((".py", ".bin", ".pt"))]


ANSWERS = {
    "no connection, nothing in the cache": lambda: huggingface_hub.errors.LocalEntryNotFoundError(
        "check your connection"
    ),
    "a proxy that refuses": lambda: huggingface_hub.errors.HTTPError("403 Forbidden"),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_hub_that_does_not_answer_is_not_one_that_lacks_the_file(snapshot, monkeypatch, answer):
    """What the cache knows is taken; a template that nobody could ask for is not left out."""

    def download(repo, filename, **_):
        raise ANSWERS[answer]()

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    lacking = snapshot.parents[1] / ".no_exist" / COMMIT
    lacking.mkdir(parents=True)
    for name in (*PEER_FILES, "model.safetensors.index.json"):
        if not (snapshot / name).exists():
            (lacking / name).touch()
    assert load_model(REPO).info.revision == COMMIT
    (lacking / "chat_template.jinja").unlink()
    with pytest.raises(
        CheckpointError,
        match=r"Cannot get chat_template\.jinja .*(connection|Forbidden).*hf download.*HF_HUB_OFFLINE=1",
    ):
        load_model(REPO)
    with pytest.raises(
        CheckpointError, match=r"Cannot get config\.json from the hub repository someone/other"
    ):
        load_model("someone/other")
