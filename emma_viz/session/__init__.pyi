from .capturing import capture as capture
from .catalogue import families_table as families_table
from .catalogue import inspection_of as inspection_of
from .catalogue import models_table as models_table
from .catalogue import peers_table as peers_table
from .catalogue import sizes_table as sizes_table
from .catalogue import unsupported_table as unsupported_table
from .comparison import Comparison as Comparison
from .comparison import compare as compare
from .fitting import fit_ridge as fit_ridge
from .fitting import fit_tuned as fit_tuned
from .layers import shown_layers as shown_layers
from .options import DEFAULT_MODELS as DEFAULT_MODELS
from .options import Asking as Asking
from .options import Running as Running
from .options import View as View
from .picture import (
    figure as figure,
)
from .picture import (
    figure_spec as figure_spec,
)
from .picture_files import check_output as check_output
from .picture_files import mispaired as mispaired
from .picture_files import redraw as redraw
from .picture_files import write_picture as write_picture
from .studies import (
    compare_study as compare_study,
)
from .study_decoding import decode_study as decode_study
from .study_decoding import scores_table as scores_table

__all__ = [
    "DEFAULT_MODELS",
    "Asking",
    "Comparison",
    "Running",
    "View",
    "capture",
    "check_output",
    "compare",
    "compare_study",
    "decode_study",
    "families_table",
    "figure",
    "figure_spec",
    "fit_ridge",
    "fit_tuned",
    "inspection_of",
    "mispaired",
    "models_table",
    "peers_table",
    "redraw",
    "scores_table",
    "shown_layers",
    "sizes_table",
    "unsupported_table",
    "write_picture",
]
