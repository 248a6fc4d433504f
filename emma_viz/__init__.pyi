from .capture import Trace as Trace
from .capture import record as record
from .checkpoints import LoadedModel as LoadedModel
from .checkpoints import load_model as load_model
from .errors import EmmaVizError as EmmaVizError
from .lens import load_lens as load_lens
from .maps import ActivationMaps as ActivationMaps
from .maps import Decoding as Decoding
from .maps import decode as decode
from .session import compare as compare
from .session import figure as figure
from .study import Study as Study
from .study import open_study as open_study

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
