"""Where a result comes from: the record of a model that every trace, lens and picture carries."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from emma_viz.errors import InputError
from emma_viz.files.schema import Count, Size, shape


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What one needs to know of a model without having its weights.

    It is plain data: it goes into study folders, lens files and figure sidecars as JSON, so that everything
    after recording runs without the model and still says which model it shows.
    """

    name: str
    """The short name that pictures print, e.g. `cobra-pocket`."""
    source: str
    """What was loaded: a bundled name, a path, or a hub id."""
    revision: str | None = None
    """The hub commit, or None for a local source."""
    family: str
    """`cobra`, `emma`, or `language-model` for a source without projector."""
    fingerprint: str
    """The first 16 hexadecimal digits or more that tell these weights from others."""
    dtype: str
    """The type the weights were loaded as, e.g. `float32`."""
    n_layer: Size
    """Blocks of the language model."""
    d_model: Size
    """Width of the residual stream."""
    ssm: str
    """What mixes tokens: `mamba1`, `mamba2`, or `attention` (a transformer, or a hybrid made of one)."""
    grid: tuple[Size, Size] | None = None
    """Rows and columns of image tokens; None where they differ from image to image, and for a language model alone."""
    prompt_style: str | None = None
    """`zephyr` or `in-out`; None for a language model alone."""
    taps: tuple[int, ...] = ()
    """Layers that the model's own decoder was fed with in training; empty for Cobra."""
    part: Literal["thumbnail"] | None = None
    """Which of its image tokens are drawn where an image becomes tiles and a thumbnail; None: the tiles'."""

    mamba_layers: tuple[Count, ...] = ()
    """Of a hybrid, the blocks that have a state-space mixer in the place of attention."""

    @property
    def mixer_layers(self) -> tuple[int, ...]:
        """Blocks that have a state-space mixer: all of a Mamba, some or all of a hybrid, none of a transformer."""
        return self.mamba_layers if self.ssm == "attention" else tuple(range(self.n_layer))

    @property
    def mixers_alone(self) -> bool:
        """Whether every block is a norm and a mixer, as a Mamba's: what takes blocks apart knows these alone."""
        return self.ssm != "attention"

    @property
    def takes_images(self) -> bool:
        """Whether it is more than a language model alone."""
        return self.family != "language-model"

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object: tuples become lists; without `part` and `mamba_layers` where there are none, so
        that older versions read it."""
        value = jsonable(asdict(self))
        absent = {name for name in ("part", "mamba_layers") if not value[name]}
        return {name: each for name, each in value.items() if name not in absent}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "ModelInfo":
        """Read what `to_json` wrote.

        Raises:
            InputError: a field is missing, unknown, of another type or out of its range.
        """
        return shape(record, cls, where="the record of a model", error=InputError)


def jsonable(value: Any) -> Any:
    """A copy of `value` that the JSON writer takes: mappings, lists, text, numbers and None.

    Raises:
        InputError: `value` holds something that has no JSON form.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    raise InputError(f"Cannot write a {type(value).__name__} as JSON; pass text, numbers, lists or mappings.")


def dump_json(value: Any) -> str:
    """`value` as indented JSON text with a final newline; not-a-number values are refused.

    Lone surrogates, which names and arguments that are no UTF-8 have, are escaped: the text has a UTF-8 form.

    Raises:
        InputError: `value` holds something that has no JSON form.
    """
    try:
        text = json.dumps(jsonable(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError as error:
        raise InputError(f"Cannot write JSON: {error}.") from error
    return re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)
