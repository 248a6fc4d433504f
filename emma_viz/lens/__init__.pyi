from .evaluation import (
    QualityGatherer as QualityGatherer,
)
from .evaluation import (
    quality_of as quality_of,
)
from .evaluation import (
    with_quality as with_quality,
)
from .files import (
    load_lens as load_lens,
)
from .files import (
    save_lens as save_lens,
)
from .fitting.fit import (
    RidgeSettings as RidgeSettings,
)
from .fitting.fit import (
    fit_ridge_on_states as fit_ridge_on_states,
)
from .fitting.states import StateSource as StateSource
from .fitting.states import TraceStates as TraceStates
from .fitting.states import image_states as image_states
from .fitting.tuned_fit import (
    fit_tuned_on_states as fit_tuned_on_states,
)
from .fitting.tuned_fit import (
    train_tuned as train_tuned,
)
from .fitting.tuned_settings import TunedSettings as TunedSettings
from .headers import read_info as read_info
from .info import LayerQuality as LayerQuality
from .info import LensInfo as LensInfo
from .kinds import LensKind as LensKind
from .native import NativeLens as NativeLens
from .native import native_lens as native_lens
from .places import bundled_lenses as bundled_lenses
from .places import find_lens as find_lens
from .protocol import Lens as Lens
from .protocol import recording_for as recording_for
from .ridge import RidgeLens as RidgeLens
from .ridge import RidgeStatistics as RidgeStatistics
from .tuned import (
    TunedConfig as TunedConfig,
)
from .tuned import (
    TunedHead as TunedHead,
)
from .tuned import (
    TunedLens as TunedLens,
)
from .tuned import (
    tuned_config as tuned_config,
)
from .tuned import (
    tuned_lens as tuned_lens,
)

__all__ = [
    "LayerQuality",
    "Lens",
    "LensInfo",
    "NativeLens",
    "QualityGatherer",
    "RidgeLens",
    "RidgeSettings",
    "RidgeStatistics",
    "StateSource",
    "TraceStates",
    "TunedConfig",
    "TunedHead",
    "TunedLens",
    "TunedSettings",
    "bundled_lenses",
    "find_lens",
    "fit_ridge_on_states",
    "fit_tuned_on_states",
    "image_states",
    "load_lens",
    "native_lens",
    "quality_of",
    "read_info",
    "recording_for",
    "save_lens",
    "train_tuned",
    "tuned_config",
    "tuned_lens",
    "with_quality",
]
