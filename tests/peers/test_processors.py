"""What a model reads is what its released processor makes of the same image and message, tensor by tensor."""

import inspect
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from emma_viz.capture import record
from emma_viz.checkpoints import load_model
from emma_viz.data import read_image
from emma_viz.errors import CheckpointError, ImageError, InputError
from emma_viz.models.peers.prompts import PLAIN_NOTE
from emma_viz.models.peers.templates import TemplateProcess
from tests.peers.checkpoints import family_of

pytestmark = pytest.mark.slow  # the package's models take seconds to import

_CLIP = {"patch_size": 4, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
TOLD = {
    "llava": _CLIP,
    "vipllava": _CLIP,
    "llava-next": _CLIP,
    "llava-onevision": {"num_image_tokens": 16, "vision_feature_select_strategy": "full"},
    "idefics3": {"image_seq_len": 4},
    "smolvlm": {"image_seq_len": 4},
    "paligemma": {},
    "gemma3": {"image_seq_length": 4},
    "internvl": {"image_seq_length": 4},
}
"""What a processor's own file says of the model."""
SIZES = [(90, 40), (32, 70), (48, 48), (16, 16), (101, 37)]
TEMPLATE = (
    "{% for turn in messages %}[{{ turn.role }}]{% for part in turn.content %}"
    "{{ MARKER if part.type == 'image' else part.text }}{% endfor %}{% endfor %}{{ '[go]' if add_generation_prompt }}"
)


def _released(name, model, monkeypatch):
    """The whole processor as transformers has it, on a tokenizer and an image processor of its own."""
    from transformers import AutoImageProcessor, AutoTokenizer, ProcessorMixin
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    kind = PROCESSOR_MAPPING[type(model.peer.settings.config)]
    # Its video processor, which needs torchvision, is not asked.
    monkeypatch.setattr(ProcessorMixin, "check_argument_for_proper_class", lambda *_: None)
    module = sys.modules[kind.__module__]
    if hasattr(module, "num2words"):
        monkeypatch.setattr(module, "num2words", True)
    parts = {
        "image_processor": AutoImageProcessor.from_pretrained(model.folder, backend="pil"),
        "tokenizer": AutoTokenizer.from_pretrained(model.folder),
    }
    if "video_processor" in inspect.signature(kind.__init__).parameters:
        parts["video_processor"] = None
    if name == "paligemma":
        parts["image_processor"].image_seq_length = 16
    return kind(**parts, **TOLD.get(family_of(name), {}))


def _noise(width, height):
    draw = np.random.default_rng(2)
    return Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8))


# PaliGemma's own processor makes numpy arrays of torch's tensors in a way that numpy will stop.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_inputs_are_those_of_the_released_processor(peer, size, monkeypatch):
    name, model = peer
    image, message = _noise(*size), "Why is that?"
    text = f"<image>{message}" if name == "paligemma" else model.prompt(message)
    wanted = _released(name, model, monkeypatch)(images=[image], text=text, return_tensors="pt")
    given = model.peer.inputs(image, message).given
    takes = inspect.signature(model.peer.network.forward).parameters
    expected = {key: torch.as_tensor(np.asarray(value)) for key, value in wanted.items() if key in takes}
    expected.pop("labels", None)
    assert given.keys() == expected.keys()
    for key, value in expected.items():
        assert given[key].shape == value.shape, key
        torch.testing.assert_close(given[key].to(value.dtype), value, msg=key)


def test_a_large_grid_of_onevision_is_resampled_as_its_processor_counts(tmp_path, monkeypatch):
    """`anyres_max_1`: four tiles of four by four tokens become at most about one tile's."""
    import json

    from tests.peers.checkpoints import write

    folder, image = tmp_path / "tiny", _noise(96, 96)
    write("llava-onevision", folder)
    whole = load_model(folder).transform.geometry(image)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"vision_aspect_ratio": "anyres_max_1"}))
    model = load_model(folder)
    place = model.transform.geometry(image)
    assert (whole.grid, place.grid) == ((8, 8), (4, 4))
    processor = _released("llava-onevision", model, monkeypatch)
    processor.vision_aspect_ratio = "anyres_max_1"
    wanted = processor(images=[image], text=model.prompt("Why?"), return_tensors="pt")["input_ids"]
    assert torch.equal(model.peer.inputs(image, "Why?").given["input_ids"], wanted)
    plain, boxes = _embedded(model, image), place.token_boxes()
    for token in (0, 5, 10, 15):
        left, top, right, bottom = (round(each) for each in boxes[token])
        changed = np.asarray(image).copy()
        middle = (slice((top + bottom) // 2 - 2, (top + bottom) // 2 + 2),
                  slice((left + right) // 2 - 2, (left + right) // 2 + 2))  # fmt: skip
        changed[middle] ^= 255
        apart = (_embedded(model, Image.fromarray(changed)) - plain).norm(dim=-1)
        assert int(apart[: place.n_tokens].argmax()) == token


def _embedded(model, image):
    """What enters block 0 at the image's tokens."""
    return record(model, image, "Why?", layers=[-1], generate=False)["resid_post", -1][0]


def test_image_and_question_of_paligemma_see_one_another(peer):
    """Its note says so: another question changes the image's tokens, and the last image token the first."""
    name, model = peer
    if name != "paligemma":
        assert "depends on the question" not in model.peer.family.note
        return
    seen = [record(model, _noise(40, 40), text, generate=False)["resid_post", 2] for text in ("Why", "How")]
    assert not torch.equal(*seen)


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (1, 400), (400, 1), (640, 3), (60, 3), (300, 3)], ids=str)
def test_an_odd_image_is_recorded_or_refused(peer, size):
    """With an error of this package, whatever transformers raises."""
    _, model = peer
    image = read_image(_noise(*size))
    try:
        trace = record(model, image, "Why?", generate=False)
    except ImageError as error:
        assert f"{size[0]}×{size[1]} pixels" in str(error)  # noqa: PT017
    else:
        assert trace.views[0].shape[:2] == trace.geometry[0].view_size
        assert trace["resid_post", 2].isfinite().all()


def test_the_name_of_a_special_token_in_a_message_is_text(peer, pictures):
    """It neither ends the prompt nor stands for an image; what stands for one is taken out."""
    _, model = peer
    words = model.peer.words
    inputs = model.peer.inputs(pictures[0], "a </s> b<s>")
    special = [words.convert_tokens_to_ids(token) for token in ("</s>", "<s>")]
    plain = model.peer.inputs(pictures[0], "a b").text_ids
    for each in special:
        assert inputs.text_ids.count(each) == plain.count(each)
    assert "a </s> b<s>" in words.decode(inputs.text_ids)
    assert "a </s> b<s>" in model.prompt("a </s> b<s>")
    shown = model.peer.inputs(pictures[0], "What is in the <image>?<start_of_image>")
    assert len(shown.image) == len(inputs.image)


@pytest.fixture
def templated(peer, tmp_path):
    """A copy of a folder, and what loads it with a chat template in a file."""
    _, model = peer
    folder = shutil.copytree(model.folder, tmp_path / model.folder.name)

    def load(text, name="chat_template.jinja"):
        for old in folder.glob("chat_template*"):
            old.unlink()
        (folder / name).write_text(text)
        return load_model(folder)

    return load


def test_a_chat_template_is_found_wherever_it_is(templated, peer, pictures):
    import json

    _, plain = peer
    marker = plain.peer.prompts.marker
    text = TEMPLATE.replace("MARKER", repr(marker))
    for name, content in (
        ("chat_template.jinja", text),
        ("chat_template.json", json.dumps({"chat_template": text})),
    ):
        model = templated(content, name)
        assert model.prompt("Why?") == f"[user]{marker}Why?[go]"
        trace = record(model, pictures[0], "Why?", generate=False)
        assert PLAIN_NOTE not in trace.notes
        alone = record(model, None, "Why?", generate=False)
        assert "[user]Why?[go]" in model.tokenizer.decode(alone.prompt_ids[0])


@pytest.mark.parametrize(
    "text",
    [
        "{% for turn in messages %}{{ 'x' + turn['content'] }}{% endfor %}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}<image>",
        "{{ messages[0].content[1].text * 2 }}{{ nothing.at.all }}",
        "no image at all",
        "{% if %}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ 'x' * 10000000000 }}",
        "{% set all = namespace(x='x' * 1000) %}{% for a in range(60) %}{% set all.x = all.x ~ all.x %}{% endfor %}",
        "{{ 'x' * 2000000 }}",
    ],
    ids=[
        "text alone",
        "endless",
        "undefined",
        "no image",
        "no template",
        "power",
        "width",
        "doubled",
        "long",
    ],
)
def test_a_chat_template_that_cannot_be_used_is_refused(tmp_path, text, monkeypatch):
    from tests.peers.checkpoints import write

    monkeypatch.setattr("emma_viz.models.peers.prompts._LONGEST", 0.3)
    write("llava", tmp_path / "llava")
    (tmp_path / "llava" / "chat_template.jinja").write_text(text)
    with pytest.raises(CheckpointError, match="chat template"):
        load_model(tmp_path / "llava")


def test_token_ids_are_refused_with_a_sentence(peer):
    with pytest.raises(InputError, match="takes messages as text"):
        record(peer[1], None, [[20, 21, 22]], generate=False)


def test_a_template_has_its_memory_whatever_the_imports_took(tmp_path, monkeypatch):
    """As on a machine of many cores, where libraries ask for address space for each."""
    (tmp_path / "sitecustomize.py").write_text(
        "import mmap; taken = mmap.mmap(-1, 3 * 2**30, mmap.MAP_PRIVATE)"
    )
    monkeypatch.syspath_prepend(tmp_path)
    process = TemplateProcess()
    try:
        turns = [{"role": "user", "content": "word " * 100_000}]
        text = process.render("{{ messages[0].content }}", turns, seconds=60.0, options={})
        assert text == turns[0]["content"]
        with pytest.raises(ValueError, match="MemoryError"):
            process.render("{{ 'a' * 3000000000 }}", turns, seconds=60.0, options={})
    finally:
        process.end()
