from .config import (
    DecoderConfig as DecoderConfig,
)
from .config import (
    FusionConfig as FusionConfig,
)
from .config import (
    MixerSize as MixerSize,
)
from .config import (
    PaperConfig as PaperConfig,
)
from .config import (
    ReleasedConfig as ReleasedConfig,
)
from .config import (
    paper_config as paper_config,
)
from .config import (
    released_config as released_config,
)
from .decoder import PaperDecoder as PaperDecoder
from .fusion import MFF as MFF
from .fusion import FusionBlock as FusionBlock
from .head import PaperHead as PaperHead
from .head import ReleasedHead as ReleasedHead
from .head import build_head as build_head
from .losses import (
    feature_loss as feature_loss,
)
from .losses import (
    feature_target as feature_target,
)
from .losses import (
    paper_loss as paper_loss,
)
from .losses import (
    released_loss as released_loss,
)
from .patch_embedding import (
    PatchEmbedding as PatchEmbedding,
)
from .patch_embedding import (
    invert_patch_embedding as invert_patch_embedding,
)
from .released import ReleasedDecoder as ReleasedDecoder
from .released import ReleasedFusion as ReleasedFusion

__all__ = [
    "MFF",
    "DecoderConfig",
    "FusionBlock",
    "FusionConfig",
    "MixerSize",
    "PaperConfig",
    "PaperDecoder",
    "PaperHead",
    "PatchEmbedding",
    "ReleasedConfig",
    "ReleasedDecoder",
    "ReleasedFusion",
    "ReleasedHead",
    "build_head",
    "feature_loss",
    "feature_target",
    "invert_patch_embedding",
    "paper_config",
    "paper_loss",
    "released_config",
    "released_loss",
]
