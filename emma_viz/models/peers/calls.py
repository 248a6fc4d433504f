"""What the transformers package raises, and the tokenizers that it runs, as errors of ours."""

from collections.abc import Generator
from contextlib import contextmanager

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
