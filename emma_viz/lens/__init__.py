"""Lenses: from the states of image tokens back to pixels, and from pixels to maps.

Names are imported when first used: `import emma_viz.lens` loads no torch.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "apply": ["decode", "image_states"],
        "decoding": ["Decoding"],
        "difference": ["MapDifference", "map_difference"],
        "evaluation": ["QualityGatherer", "quality_of", "with_quality"],
        "files": ["bundled_lenses", "find_lens", "load_lens", "read_info", "save_lens"],
        "fit": ["RidgeSettings", "fit_ridge", "fit_ridge_on_states"],
        "info": ["LayerQuality", "LensInfo"],
        "kinds": ["MapKind"],
        "maps": ["ActivationMaps", "Scale", "share_limits"],
        "native": ["NativeLens", "native_lens"],
        "protocol": ["Lens", "recording_for"],
        "ridge": ["RidgeLens", "RidgeStatistics"],
        "states": ["RecordedStates", "StateSource", "TraceStates"],
        "tuned": ["TunedConfig", "TunedHead", "TunedLens", "tuned_config", "tuned_lens"],
        "tuned_fit": ["TunedSettings", "fit_tuned", "fit_tuned_on_states", "train_tuned"],
    },
)
