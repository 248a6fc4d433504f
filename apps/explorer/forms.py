"""What a request may say: the one door for JSON that a browser sends, before Gradio reads any of it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from apps.explorer.uploads import NOT_YOURS
from emma_viz.errors import InputError
from emma_viz.files.json_door import Budget, parse_json

BUDGET = Budget(size=2**20, depth=16, nodes=20_000)
_LONGEST = 20_000
"""Characters of the longest text."""
SESSION_KEYS = {"session_hash", "event_id", "fn_index"}
EVENT_KEYS = {"data", "event_data", "fn_index", "trigger_id", "session_hash"}
CALL_KEYS = {"data", "component_id", "fn_name", "session_hash"}


class Forms:
    """What this page's events and calls may say.

    Args:
        events: number → Gradio's function with its inputs.
        canvas: the component that takes calls.
        calls: names of its calls.
    """

    def __init__(self, events: Mapping[int, Any], canvas: int, calls: tuple[str, ...]):
        self._events, self._canvas, self._calls = events, canvas, calls

    def read(self, route: str, body: bytes, sees: Callable[[object], bool]) -> None:
        """Make sure that a body is one that the page could have sent.

        Args:
            route: what it was sent to: `queue/join`, `run/predict`, `component_server` or `cancel`.
            body: the request's.
            sees: whether its sender may see a file.

        Raises:
            InputError: it is not. A file that the sender may not see gets the same sentence whatever it is.
        """
        said = parse_json(body, where="the request", error=InputError, budget=BUDGET)
        _require(isinstance(said, dict))
        name = said.get("session_hash")
        _require(isinstance(name, str) and 0 < len(name) <= 64 and name.isascii() and name.isalnum())
        if route == "cancel":
            _require(set(said) <= SESSION_KEYS and _is_whole(said.get("fn_index")))
            return
        for path in _paths(said):
            if not sees(path):
                raise InputError(NOT_YOURS)
        if route == "component_server":
            _require(set(said) == CALL_KEYS and said["component_id"] == self._canvas)
            _require(said["fn_name"] in self._calls)
            _require(isinstance(said["data"], dict))
            return
        _require(set(said) <= EVENT_KEYS and _is_whole(said.get("fn_index")))
        _require(said["fn_index"] in self._events and _is_whole(said.get("trigger_id", 0) or 0))
        event = self._events[said["fn_index"]]
        self._require_choice(event, said.get("event_data"))
        values = said.get("data")
        _require(isinstance(values, list) and len(values) == len(event.inputs))
        for component, value in zip(event.inputs, values, strict=True):
            kind = component.get_block_name()
            _require(kind in FITS and FITS[kind](component, value))

    def _require_choice(self, event: Any, said: object) -> None:
        """What was selected is said where something can be, and nothing elsewhere."""
        if any(what == "select" for _, what in event.targets):
            known = {"index", "value", "selected", "row_value", "col_value"}
            index = said.get("index") if isinstance(said, dict) and set(said) <= known else None
            _require(isinstance(index, int) and _is_whole(index) and 0 <= index < 10**6)
        else:
            _require(said is None)


def _paths(value: object) -> Iterator[object]:
    """Everything in a body that Gradio would take for a file."""
    if isinstance(value, dict):
        if "path" in value:
            yield value["path"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _paths(item)


def _is_text(_component: Any, value: object) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= _LONGEST)


def _is_picture(_component: Any, value: object) -> bool:
    """An empty image input, or a file; `_paths` has looked at where it lies."""
    if value is None:
        return True
    if not isinstance(value, dict) or not isinstance(value.get("path"), str):
        return False
    meta = value.get("meta")
    sound = {"url": str, "orig_name": str, "mime_type": str, "size": int, "is_stream": bool}
    return (
        set(value) <= {"path", "meta", *sound}
        and (meta is None or meta == {"_type": "gradio.FileData"})
        and all(value.get(name) is None or isinstance(value[name], kind) for name, kind in sound.items())
        and not value.get("is_stream")
    )


def _is_choice(component: Any, value: object) -> bool:
    offered = [each for _, each in component.choices]
    chosen = value if component.multiselect else [value]
    return isinstance(chosen, list) and all(isinstance(each, str) and each in offered for each in chosen)


def _is_length(component: Any, value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and component.minimum <= value <= component.maximum


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


FITS: dict[str, Callable[[Any, object], bool]] = {
    "state": lambda _component, value: value is None,
    "textbox": _is_text,
    "image": _is_picture,
    "dropdown": _is_choice,
    "slider": _is_length,
    "checkbox": lambda _component, value: isinstance(value, bool),
    "number": lambda _component, value: isinstance(value, int) and _is_whole(value) and 0 <= value < 2**31,
}
"""Kind of component → whether it can have sent a value."""


def _require(sound: bool) -> None:
    if not sound:
        raise InputError("The page did not send this; reload it and try again.")
