"""A checkpoint as a model of lmms-eval, of its simple kind: a text and what `doc_to_visual` gives.

Written after `lmms_eval/api/model.py` and `api/instance.py` of lmms-eval 0.2 to 0.7.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from lmms_eval.api.model import lmms  # ty: ignore[import-not-found]

from emma_viz.data import answer_ids, read_image
from emma_viz.errors import InputError
from emma_viz.records.questions import Question
from emma_viz.session.answering import given_answers
from emma_viz.session.loading import load
from emma_viz.session.options import Asking, Keeping, Running

_LONGEST = 1024
"""Tokens of an answer where a task does not say, as in lmms-eval's own models."""


class EmmaViz(lmms):
    """One of our checkpoints.

    Args:
        pretrained: a bundled name, a run directory, a hub id or a file, as `--models` takes them.
        device: where it runs; under a launcher of several processes each takes its own GPU.
        batch_size: questions at a time.
        dtype: of the weights; None is as `--dtype`.
        backend: kernels of the state-space layers.
        vision: the encoders' weights, as `--vision` takes them.
        tokenizer: a tokenizer.json.
        llm: the language model of checkpoints that hold a projector alone.
        max_batch_size: not used; lmms-eval passes it.

    Raises:
        EmmaVizError: it cannot be loaded.
    """

    is_simple = True

    def __init__(
        self,
        pretrained: str = "cobra-pocket",
        device: str = "cpu",
        batch_size: int | str = Keeping.batch_size,
        dtype: str | None = None,
        backend: str = "auto",
        vision: str | None = None,
        tokenizer: str | None = None,
        llm: str | None = None,
        max_batch_size: int | None = None,
    ):
        super().__init__()
        self._rank, self._world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        if self._world_size > 1:
            from accelerate import Accelerator

            self.accelerator = Accelerator()
            if device == "cuda":
                device = f"cuda:{self.accelerator.local_process_index}"
        self.device = torch.device(device)
        self._model = load(
            str(pretrained),
            Running(
                device=device,
                dtype=dtype,
                backend=backend,
                vision_source=vision,
                tokenizer_source=tokenizer,
                llm_source=llm,
            ),
        )
        self._batch_size = int(batch_size)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Answers, in the requests' order.

        Raises:
            InputError: a request has several images, or wants beams.
        """
        found: list[str] = []
        for options, some in groupby(requests, key=lambda each: _options(each.args[1])):
            part = list(some)
            asking, stops = options
            questions = [
                Question(image=self._image(each.args[2], *each.args[3:]), prompt=each.args[0])
                for each in part
            ]
            given = given_answers(self._model, questions, asking=asking, batch_size=self._batch_size)
            texts = [_cut(each.answer.text, stops) for batch in given for each in batch]
            for request, text in zip(part, texts, strict=True):
                self.cache_hook.add_partial("generate_until", (request.args[0], request.args[1]), text)
            found += texts
        return found

    @torch.no_grad()
    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """The loss of each continuation, and whether greedy decoding would write it.

        lmms-eval's tasks of several choices take the one of the least number: its own models return their loss, nats
        a token, where the method's name promises the log-probability.

        Raises:
            InputError: a request has several images, or an empty continuation.
        """
        found = []
        for request in requests:
            context, target, doc_to_visual, *where = request.args
            text = target if isinstance(target, str) else target(self._doc(*where))
            image = self._image(doc_to_visual, *where)
            asked = self._model.prompt(context)
            prompt = self._model.tokenizer.encode(asked)
            told = answer_ids(self._model.tokenizer, asked, text)
            if not told:
                raise InputError("expected a continuation of at least one token, got none.")
            pixels = None if image is None else self._model.transform.pixels([read_image(image)])
            instruction = None if image is None else self._model.vlm.instruct([context])
            out = self._model.vlm(
                pixels, torch.tensor([[*prompt, *told]]), instruction=instruction, logits="text"
            )
            assert out.logits is not None  # they were asked for
            # The row before each token of the continuation predicts it.
            rows = out.logits[0, -len(told) - 1 : -1, : self._model.config.llm.vocab_size].float().cpu()
            wanted = torch.tensor(told)
            shares = rows.log_softmax(dim=-1).gather(1, wanted[:, None])
            found.append((-float(shares.mean()), bool((rows.argmax(dim=-1) == wanted).all())))
        return found

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Not there: the released models answer one question about one image.

        Raises:
            InputError: always.
        """
        raise InputError(
            "expected a task of one round, got one of several, which these models do not answer."
        )

    def _doc(self, doc_id: Any, task: str, split: str) -> Any:
        return self.task_dict[task][split][doc_id]

    def _image(self, doc_to_visual: Callable[[Any], Any], doc_id: Any, task: str, split: str) -> Any:
        seen = doc_to_visual(self._doc(doc_id, task, split)) or []
        several = list(seen) if isinstance(seen, list | tuple) else [seen]
        if len(several) > 1:
            raise InputError(
                f"{task}, {doc_id!r}: expected one image at most, got {len(several)}; these models see one."
            )
        return several[0] if several else None


def _options(given: Mapping[str, Any]) -> tuple[Asking, tuple[str, ...]]:
    """What a task's generation options mean here; of a greedy answer nothing is drawn, whatever `top_p` says.

    Raises:
        InputError: beams are wanted.
    """
    if (given.get("num_beams") or 1) != 1:
        raise InputError(
            f"expected num_beams 1, got {given['num_beams']!r}; answers are not searched by beams."
        )
    temperature = float(given.get("temperature") or 0.0)
    if given.get("do_sample") is False:
        temperature = 0.0
    stops = given.get("until") or ()
    asking = Asking(
        max_new_tokens=int(given.get("max_new_tokens") or given.get("max_gen_toks") or _LONGEST),
        temperature=temperature,
        top_p=float(given.get("top_p") or 1.0) if temperature else 1.0,
    )
    return asking, (stops,) if isinstance(stops, str) else tuple(stops)


def _cut(text: str, stops: Sequence[str]) -> str:
    """An answer up to the first of what ends it."""
    for stop in stops:
        if stop:
            text = text.split(stop, 1)[0]
    return text.strip()
