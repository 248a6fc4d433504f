"""See what a Mamba vision-language model's image tokens still hold, layer by layer."""

import lazy_loader as _lazy

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "capture": ["Study", "Trace", "open_study", "record"],
        "checkpoints": ["LoadedModel", "load_model"],
        "errors": ["EmmaVizError"],
        "lens": ["ActivationMaps", "Decoding", "decode", "load_lens"],
        "session": ["compare", "figure"],
    },
)
