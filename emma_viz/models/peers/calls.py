"""What the transformers package raises, and the tokenizers and templates that it runs, as errors of ours."""

import ctypes
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from emma_viz.errors import EmmaVizError


@contextmanager
def translated(error: type[EmmaVizError], said: str) -> Generator[None]:
    """Whatever a call into transformers raises leaves as an error of ours; our own pass.

    Args:
        error: what is raised.
        said: what could not be done, and how to mend it.

    Raises:
        EmmaVizError: of the kind `error`, with the reason.
    """
    try:
        yield
    except (EmmaVizError, KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
        raise
    # Damaged files and odd images make it raise almost anything; tokenizers panics with what is no Exception.
    except BaseException as failure:
        raise error(f"{said} ({type(failure).__name__}: {str(failure).strip()[:400]}).") from failure


class _LateError(BaseException):
    """Ends a call that took too long, in its own thread."""


def in_time(seconds: float, call: Callable[[], Any]) -> Any:
    """What a call of pure Python gives, which is ended if it takes too long.

    Raises:
        TimeoutError: it did.
    """
    found: list[Any] = []
    raised: list[BaseException] = []

    def work() -> None:
        try:
            found.append(call())
        except BaseException as failure:
            raised.append(failure)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_LateError)
        )
        raise TimeoutError(f"it was not done in {seconds:g} seconds")
    if raised:
        raise raised[0]
    return found[0]
