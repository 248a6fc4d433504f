"""Mamba vision-language models: descriptions, networks, generation. No files, no hooks, no plots."""

from emma_viz.models.backbones import LLM_BACKBONES, VISION_BACKBONES
from emma_viz.models.cache import LayerState, MambaCache
from emma_viz.models.config import MambaConfig, ProjectorConfig, VLMConfig, vlm_config_from_dict
from emma_viz.models.generation import Generation, generate, pad_prompts
from emma_viz.models.hookpoint import HookPoint
from emma_viz.models.language_model import Block, MambaBackbone, MambaLM
from emma_viz.models.mixers.mamba1 import Mamba1Mixer
from emma_viz.models.mixers.mamba2 import Mamba2Mixer
from emma_viz.models.norms import GatedRMSNorm, RMSNorm
from emma_viz.models.positions import resample_positions
from emma_viz.models.prefixes import seen_images
from emma_viz.models.presets import PRESETS, config_from_ids
from emma_viz.models.projectors import Projector
from emma_viz.models.towers.pocket import PocketEncoder
from emma_viz.models.towers.vision import VisionEncoder
from emma_viz.models.vision_config import TowerConfig, VisionConfig
from emma_viz.models.vlm import VLM, TextNetwork, VLMOutput

__all__ = [
    "LLM_BACKBONES",
    "PRESETS",
    "VISION_BACKBONES",
    "VLM",
    "Block",
    "GatedRMSNorm",
    "Generation",
    "HookPoint",
    "LayerState",
    "Mamba1Mixer",
    "Mamba2Mixer",
    "MambaBackbone",
    "MambaCache",
    "MambaConfig",
    "MambaLM",
    "PocketEncoder",
    "Projector",
    "ProjectorConfig",
    "RMSNorm",
    "TextNetwork",
    "TowerConfig",
    "VLMConfig",
    "VLMOutput",
    "VisionConfig",
    "VisionEncoder",
    "config_from_ids",
    "generate",
    "pad_prompts",
    "resample_positions",
    "seen_images",
    "vlm_config_from_dict",
]
