from .capture import Study as Study
from .capture import Trace as Trace
from .capture import open_study as open_study
from .capture import record as record
from .checkpoints import LoadedModel as LoadedModel
from .checkpoints import load_model as load_model
from .errors import EmmaVizError as EmmaVizError
from .lens import (
    ActivationMaps as ActivationMaps,
)
from .lens import (
    Decoding as Decoding,
)
from .lens import (
    decode as decode,
)
from .lens import (
    load_lens as load_lens,
)
from .session import compare as compare
from .session import figure as figure

__version__: str

__all__ = [
    "ActivationMaps",
    "Decoding",
    "EmmaVizError",
    "LoadedModel",
    "Study",
    "Trace",
    "compare",
    "decode",
    "figure",
    "load_lens",
    "load_model",
    "open_study",
    "record",
]
