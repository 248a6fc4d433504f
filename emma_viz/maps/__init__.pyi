from .apply import decode as decode
from .decoding import ActivationMaps as ActivationMaps
from .decoding import Decoding as Decoding
from .difference import MapDifference as MapDifference
from .difference import map_difference as map_difference
from .joining import share_limits as share_limits
from .kinds import MapKind as MapKind
from .scores import ImageScore as ImageScore
from .scores import LayerScore as LayerScore
from .scores import measure as measure
from .values import Scale as Scale

__all__ = [
    "ActivationMaps",
    "Decoding",
    "ImageScore",
    "LayerScore",
    "MapDifference",
    "MapKind",
    "Scale",
    "decode",
    "map_difference",
    "measure",
    "share_limits",
]
