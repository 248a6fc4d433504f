"""The plug-in of lmms-eval, against that package's interface: what its registry and evaluator call, restated here."""

import abc
import importlib
import sys
from dataclasses import dataclass
from types import ModuleType

import pytest
import torch
from PIL import Image

from emma_viz.checkpoints import load_model
from emma_viz.data import read_image
from emma_viz.errors import InputError
from emma_viz.records.questions import Question
from emma_viz.session import Asking
from emma_viz.session.answering import given_answers
from tests.tiny_model import spaced_tokenizer, tiny_model


class Hook:
    """As lmms-eval's CacheHook."""

    def __init__(self):
        self.kept = []

    def add_partial(self, name, request, result):
        self.kept.append((name, request, result))


class Lmms(abc.ABC):
    """As `lmms_eval.api.model.lmms`: what it sets, and what a model must define."""

    is_simple = True

    def __init__(self):
        self._rank, self._world_size = 0, 1
        self.cache_hook = Hook()
        self.task_dict = {}

    @abc.abstractmethod
    def loglikelihood(self, requests): ...

    @abc.abstractmethod
    def generate_until(self, requests): ...

    @abc.abstractmethod
    def generate_until_multi_round(self, requests): ...

    @property
    def rank(self):
        return self._rank

    @property
    def world_size(self):
        return self._world_size


@dataclass
class Instance:
    """As `lmms_eval.api.instance.Instance`."""

    arguments: tuple

    @property
    def args(self):
        return self.arguments


@dataclass(frozen=True)
class Manifest:
    """As `lmms_eval.models.registry_v2.ModelManifest`."""

    model_id: str
    simple_class_path: str | None = None
    chat_class_path: str | None = None


TOLD = "Yes, a cup"
PLUGIN = "emma_viz.session.lmms_eval"


@pytest.fixture(scope="module")
def plugin():
    """The plug-in, as an environment with lmms-eval has it."""
    fakes = {
        name: ModuleType(name)
        for name in (
            "lmms_eval",
            "lmms_eval.api",
            "lmms_eval.api.model",
            "lmms_eval.models",
            "lmms_eval.models.registry_v2",
        )
    }
    fakes["lmms_eval.api.model"].lmms = Lmms
    fakes["lmms_eval.models.registry_v2"].ModelManifest = Manifest
    with pytest.MonkeyPatch.context() as patch:
        for name, module in fakes.items():
            patch.setitem(sys.modules, name, module)
        yield importlib.import_module(PLUGIN)
        sys.modules.pop(f"{PLUGIN}.models.emma_viz", None)


def made(class_path):
    """As its registry: import what a path names."""
    module, _, name = class_path.rpartition(".")
    return getattr(importlib.import_module(module), name)


@pytest.fixture(scope="module")
def docs(photos):
    return [
        {"image": Image.open(photos[0]), "question": "Is there a cup?"},
        {"image": Image.open(photos[1]), "question": "A red cup"},
        {"image": None, "question": "on a table"},
    ]


@pytest.fixture(scope="module")
def model(plugin, pair, docs):
    found = made(plugin.manifest().simple_class_path)(
        pretrained=str(pair.cobra), vision=str(pair.vision), batch_size="2"
    )
    found.task_dict = {"pope": {"test": docs}}
    return found


def see(doc):
    return [] if doc["image"] is None else [doc["image"].convert("RGB")]


def requests(docs, options, see=see):
    return [
        Instance((each["question"], dict(options), see, i, "pope", "test")) for i, each in enumerate(docs)
    ]


def test_both_registries_find_the_class(plugin, model):
    assert plugin.manifest().model_id == "emma_viz"
    models = importlib.import_module(f"{PLUGIN}.models")  # what LMMS_EVAL_PLUGINS makes of its name
    assert importlib.import_module(
        f"{PLUGIN}.tasks"
    ).__path__  # where it looks for tasks, whether there are any or not
    ((name, class_name),) = models.AVAILABLE_MODELS.items()
    assert isinstance(model, made(f"{PLUGIN}.models.{name}.{class_name}"))
    assert issubclass(type(model), Lmms)
    assert type(model).is_simple
    assert (model.rank, model.world_size) == (0, 1)


def test_answers_are_those_of_the_same_model_elsewhere(model, docs, pair):
    options = {"max_new_tokens": 3, "temperature": 0, "top_p": 0, "num_beams": 1, "do_sample": False}
    asked = requests(docs, options)
    found = model.generate_until(asked)
    own = load_model(pair.cobra, vision_source=str(pair.vision))
    questions = [Question(image=doc["image"], prompt=doc["question"]) for doc in docs]
    batches = given_answers(own, questions, asking=Asking(max_new_tokens=3), batch_size=2)
    assert found == [each.answer.text for batch in batches for each in batch]
    assert [kept[2] for kept in model.cache_hook.kept[-3:]] == found
    assert all(request.args[1] == options for request in asked)


def test_an_answer_ends_where_the_task_says(model, docs):
    (whole, *_) = model.generate_until(requests(docs, {"max_new_tokens": 6}))
    stop = whole[1:3]
    (cut, *_) = model.generate_until(requests(docs, {"max_new_tokens": 6, "until": [stop]}))
    assert cut == whole.split(stop)[0].strip()


def test_losses_are_those_of_the_tokens(model, docs, pair):
    asked = [Instance((doc["question"], TOLD, see, i, "pope", "test")) for i, doc in enumerate(docs)]
    asked.append(Instance((docs[0]["question"], lambda doc: TOLD, see, 0, "pope", "test")))
    found = model.loglikelihood(asked)
    own = load_model(pair.cobra, vision_source=str(pair.vision))
    told = own.tokenizer.encode(TOLD)
    assert len(told) > 1
    for (score, greedy), doc in zip(found, [*docs, docs[0]], strict=True):
        ids = list(own.tokenizer.encode(own.prompt(doc["question"])))
        pixels = None if doc["image"] is None else own.transform.pixels([read_image(doc["image"])])
        total, best = 0.0, True
        for token in told:
            with torch.no_grad():
                row = own.vlm(pixels, torch.tensor([ids]), logits="last").logits[0, 0]
            row = row[: own.config.llm.vocab_size]
            total += float(row.log_softmax(dim=0)[token])
            best = best and int(row.argmax()) == token
            ids.append(token)
        assert score == pytest.approx(-total / len(told), rel=1e-4)
        assert greedy == best


def test_a_continuation_stands_behind_the_prompt_as_an_answer_does(model, docs, monkeypatch):
    """After a space in TinyLLaVA, whether the task writes that or not."""
    own = tiny_model("tiny-tinyllava", spaced_tokenizer())
    monkeypatch.setattr(model, "_model", own)
    question = docs[2]["question"]
    bare, spaced = model.loglikelihood(
        [Instance((question, text, see, 2, "pope", "test")) for text in ("Yes", " Yes")]
    )
    (token,) = own.tokenizer.encode(" Yes")
    with torch.no_grad():
        ids = torch.tensor([own.tokenizer.encode(own.prompt(question))])
        row = own.vlm(None, ids, logits="last").logits[0, 0, : own.config.llm.vocab_size]
    assert bare == spaced
    assert bare[0] == pytest.approx(-float(row.log_softmax(dim=0)[token]), rel=1e-4)


def test_what_these_models_cannot_do_is_refused(model, docs):
    with pytest.raises(InputError, match="one image"):
        model.generate_until(requests(docs[:1], {}, see=lambda doc: see(doc) * 2))
    with pytest.raises(InputError, match="num_beams"):
        model.generate_until(requests(docs[:1], {"num_beams": 3}))
    with pytest.raises(InputError, match="one round"):
        model.generate_until_multi_round(requests(docs[:1], {}))
