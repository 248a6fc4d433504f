"""The networks that EMMA trains beside its language model: feature fusion and decoder, as in the paper and as released.

Names are imported when first used: `import emma_viz.heads` loads no torch.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "config": [
            "DecoderConfig",
            "FusionConfig",
            "MixerSize",
            "PaperConfig",
            "ReleasedConfig",
            "paper_config",
            "released_config",
        ],
        "decoder": ["PaperDecoder"],
        "fusion": ["MFF", "FusionBlock"],
        "head": ["PaperHead", "ReleasedHead", "build_head"],
        "losses": ["feature_loss", "feature_target", "paper_loss", "released_loss"],
        "patch_embedding": ["PatchEmbedding", "invert_patch_embedding"],
        "released": ["ReleasedDecoder", "ReleasedFusion"],
    },
)
