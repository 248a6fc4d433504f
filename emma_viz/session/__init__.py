"""Load → record → decode → measure → render: the one road that the command line and both apps take."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "catalogue": ["inspect", "models_table"],
        "comparison": ["DEFAULT_MODELS", "Comparison", "compare"],
        "layers": ["shown_layers"],
        "options": ["Asking", "Running", "View"],
        "picture": ["check_output", "figure", "figure_spec", "redraw", "save"],
        "studies": ["capture", "compare_study", "decode_study", "scores_table"],
    },
)
