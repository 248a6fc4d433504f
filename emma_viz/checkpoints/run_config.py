"""The `config.json` of a run directory and of a language model, read into the model's own descriptions."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from emma_viz.checkpoints.nearest import nearest_of_config
from emma_viz.errors import CheckpointError, InputError
from emma_viz.files.json_door import parse_json, read_json
from emma_viz.files.schema import Size, shape
from emma_viz.files.versions import require_version
from emma_viz.models.backbones import LLM_BACKBONES, VISION_BACKBONES
from emma_viz.models.config import MambaConfig, ResizeStrategy, VLMConfig, vlm_config_from_dict
from emma_viz.models.families.table import described_elsewhere, family_named
from emma_viz.models.presets import config_from_ids
from emma_viz.models.ranges import Depth, Epsilon, Factor, Label, Width
from emma_viz.models.sizes import require_real

SECTION = "emma_viz"
"""The object of `config.json` that holds what the official layout has no word for."""
CONFIG_SCHEMA = 1
"""Version of that object."""
_WHOLE = {"model_id", "family", "vision", "projector", "llm", "llm_backbone_id", "taps"}
"""Fields that an `emma_viz` object has when it describes a model by itself."""


@dataclass(frozen=True, kw_only=True)
class _RunConfig:
    """`config.json` of a run directory."""

    model: dict[str, Any]
    emma_viz: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _OfficialModel:
    """The `model` object of the released code's `config.json`."""

    model_id: Label
    arch_specifier: Label
    vision_backbone_id: Label
    llm_backbone_id: Label
    image_resize_strategy: ResizeStrategy = "resize-naive"
    llm_max_length: Size = 2048


Bound = float | dict[Literal["__float__"], Literal["Infinity"]]
"""transformers writes infinity as `Infinity`, or as {"__float__": "Infinity"}."""


@dataclass(frozen=True, kw_only=True)
class _StateSpacesMixer:
    """`ssm_cfg` of a `config.json` in the layout of state-spaces."""

    layer: Literal["Mamba1", "Mamba2"] = "Mamba1"
    d_state: Width | None = None
    d_conv: Factor = 4
    expand: Factor = 2
    headdim: Width = 64
    ngroups: Width = 1
    chunk_size: Width = 256
    dt_rank: Width | Literal["auto"] = "auto"
    bias: bool = False
    conv_bias: bool = True
    d_ssm: Width | None = None
    D_has_hdim: bool = False
    rmsnorm: bool = True
    norm_before_gate: bool = False
    dt_limit: tuple[Bound, Bound] | None = None


FIRST_WEIGHTS = {
    *("dt_min", "dt_max", "dt_init", "dt_scale", "dt_init_floor", "conv_init", "A_init_range"),
    *("use_fast_path", "use_mem_eff_path"),
}
"""Fields of `ssm_cfg` that decide how training starts or which kernel runs, and not what trained weights compute."""


@dataclass(frozen=True, kw_only=True)
class _StateSpaces:
    """`config.json` of a language model in the layout of state-spaces, or of Cobra's own class, which writes the same
    with all defaults spelled out."""

    d_model: Width
    n_layer: Depth
    vocab_size: Size
    pad_vocab_size_multiple: Width = 8
    ssm_cfg: dict[str, Any] | None = None
    rms_norm: bool = True
    residual_in_fp32: bool = True
    norm_epsilon: Epsilon = 1e-5
    tie_embeddings: bool = True
    d_intermediate: int = 0
    attn_layer_idx: list[int] | None = None
    bidirectional: bool = False


@dataclass(frozen=True, kw_only=True)
class _Transformers:
    """`config.json` of a language model in the layout of transformers."""

    model_type: Literal["mamba", "mamba2"]
    hidden_size: Width
    num_hidden_layers: Depth
    vocab_size: Size
    state_size: Width | None = None
    conv_kernel: Factor = 4
    expand: Factor = 2
    layer_norm_epsilon: Epsilon = 1e-5
    residual_in_fp32: bool = True
    use_bias: bool = False
    use_conv_bias: bool = True
    hidden_act: str = "silu"
    time_step_limit: tuple[Bound, Bound] | None = None
    time_step_rank: Width | Literal["auto"] = "auto"
    head_dim: Width | None = None
    num_heads: Width | None = None
    n_groups: Width = 8
    chunk_size: Width = 256


HYBRID_CONFIG = "mamba_config.json"
"""Which blocks of a hybrid have a Mamba-2 for attention; it lies beside `config.json`."""


def read_config(path: Path) -> dict[str, Any]:
    """Read a `config.json`, which transformers may have written with infinite numbers in it; what stands beside it of a
    hybrid's mixers (MaTVLM) is in it under `mamba_config`.

    Raises:
        CheckpointError: there is no such file, or it holds something else than a JSON object.
    """
    values = read_json(path, error=CheckpointError, infinite=True)
    beside = path.with_name(HYBRID_CONFIG)
    if beside.is_file():
        values = {**values, "mamba_config": read_json(beside, error=CheckpointError)}
    return values


def parse_config(text: str, *, where: str) -> dict[str, Any]:
    """The same from text that stands elsewhere.

    Raises:
        CheckpointError: as `read_config`.
    """
    value = parse_json(text, where=where, error=CheckpointError, infinite=True)
    return shape(value, dict[str, Any], where=where, error=CheckpointError)


def is_run_config(values: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is that of a run directory (and not of a language model)."""
    return isinstance(values.get("model"), dict)


def vlm_config(values: Mapping[str, Any], *, where: str) -> VLMConfig:
    """Describe the model of a run directory.

    The official ids say what is built; the `emma_viz` object may replace any field of `VLMConfig` (`llm` and
    `projector` field by field), and must do so for parts whose ids are not official.

    Args:
        values: the content of `config.json`.
        where: the file, for messages.

    Raises:
        CheckpointError: a field is missing, unknown, out of its range, or not supported.
    """
    run = _shaped(values, _RunConfig, where)
    official = {each.name for each in fields(_OfficialModel)}
    if not (run.emma_viz or official & run.model.keys()):
        raise CheckpointError(
            f"{where}: its object `model` is no run directory's, which has model_id, arch_specifier, "
            "vision_backbone_id and llm_backbone_id (the families cobra, emma and others of their layout); it has "
            f"{', '.join(sorted(run.model))[:200] or 'nothing'}. No family is near."
        )
    require_version(run.emma_viz, "schema", CONFIG_SCHEMA, where=where, error=CheckpointError, absent=1)
    overrides = {name: value for name, value in run.emma_viz.items() if name not in ("schema", "provenance")}
    try:
        if overrides.keys() >= _WHOLE:
            config = vlm_config_from_dict(overrides)
        else:
            official = _shaped(run.model, _OfficialModel, f"{where}: the `model` object")
            config = vlm_config_from_dict(_replaced(official, overrides))
        family_named(config.family)
        known = VISION_BACKBONES.get(config.vision.backbone_id)
        if known is not None and config.vision != known():
            raise InputError(
                f"the encoder {config.vision.backbone_id!r} is described with other sizes than it has; leave `vision` "
                "out, or give it a name of its own"
            )
        require_real(config)
    except InputError as error:
        raise CheckpointError(f"{where}: {error}") from error
    return config


def read_description(values: Mapping[str, Any], *, where: str) -> VLMConfig | MambaConfig:
    """Describe what a `config.json` is of: a run directory, a model of a family that an installed package brings, or
    a language model.

    Raises:
        CheckpointError: it is of neither, or a field is missing, unknown, out of its range, or not supported.
    """
    if is_run_config(values):
        return vlm_config(values, where=where)
    try:
        found = described_elsewhere(values)
        if found is not None:
            require_real(found)
    except InputError as error:
        raise CheckpointError(f"{where}: {error}") from error
    return language_model_config(values, where=where) if found is None else found


def _replaced(official: _OfficialModel, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The official description with what the `emma_viz` object says instead."""
    for named, part, known in (
        ("vision_backbone_id", "vision", VISION_BACKBONES),
        ("llm_backbone_id", "llm", LLM_BACKBONES),
    ):
        if part in overrides and getattr(official, named) not in known:
            raise InputError(
                f"{named} {getattr(official, named)!r} is not official, so the `{SECTION}` object must hold the "
                "whole model description, as save_run_directory writes it"
            )
    base = config_from_ids(**asdict(official)).to_dict()
    for name, value in overrides.items():
        merge = name in ("llm", "projector") and isinstance(value, dict)
        base[name] = {**base[name], **value} if merge else value
    return base


def run_config(config: VLMConfig, *, provenance: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The content of `config.json` for a model: official fields, and the whole description beside them."""
    model = {
        "model_id": config.model_id,
        "arch_specifier": f"no-align+{config.projector.kind}",
        "vision_backbone_id": config.vision.backbone_id,
        "llm_backbone_id": config.llm_backbone_id,
        "image_resize_strategy": config.resize_strategy,
        "llm_max_length": config.max_length,
    }
    section = config.to_dict()
    if provenance:
        section["provenance"] = dict(provenance)
    return {"model": model, SECTION: {"schema": CONFIG_SCHEMA, **section}}


def language_model_config(values: Mapping[str, Any], *, where: str) -> MambaConfig:
    """Describe a language model from its `config.json`, of state-spaces or of transformers.

    Raises:
        CheckpointError: it is no Mamba, or one with parts that are not supported.
    """
    if "quantization_config" in values:
        raise CheckpointError(
            f"{where}: the model is quantised (it has a quantization_config); pass one in bfloat16, float16 or float32."
        )
    try:
        # Cobra's own class is of the type mamba as well, but its fields are those of state-spaces; transformers may
        # have kept those beside its own.
        theirs = "num_hidden_layers" in values or not {"d_model", "n_layer"} <= values.keys()
        if values.get("model_type") in ("mamba", "mamba2") and theirs:
            config = _transformers_config(_shaped(values, _Transformers, where), where)
        elif "d_model" in values and "n_layer" in values:
            config = _state_spaces_config(_shaped(values, _StateSpaces, where), where)
        else:
            raise CheckpointError(
                f"{where} describes no Mamba language model: expected `model_type` mamba or mamba2 (transformers), or "
                f"`d_model` and `n_layer` (state-spaces); got {', '.join(sorted(values)[:8])[:200]}. "
                + nearest_of_config(values)
            )
        require_real(config)
    except InputError as error:
        raise CheckpointError(f"{where}: {error}") from error
    return config


def has_own_head(values: Mapping[str, Any]) -> bool:
    """Whether a language model's `config.json` says that its head is not the embedding, so that a file must hold it."""
    return "num_hidden_layers" in values and values.get("tie_word_embeddings") is False


def _state_spaces_config(values: _StateSpaces, where: str) -> MambaConfig:
    named = {name: value for name, value in (values.ssm_cfg or {}).items() if name not in FIRST_WEIGHTS}
    mixer = shape(named, _StateSpacesMixer, where=f"{where}: ssm_cfg", error=CheckpointError)
    _refuse(where, "rms_norm", values.rms_norm, (True,))
    _refuse(where, "d_intermediate", values.d_intermediate, (0,))
    _refuse(where, "attn_layer_idx", values.attn_layer_idx or [], ([],))
    _refuse(where, "tie_embeddings", values.tie_embeddings, (True,))
    _refuse(where, "bidirectional", values.bidirectional, (False,))
    inner = f"{where}: ssm_cfg"
    _refuse(inner, "bias", mixer.bias, (False,))
    _refuse(inner, "conv_bias", mixer.conv_bias, (True,))
    _refuse(inner, "d_ssm", mixer.d_ssm, (None, mixer.expand * values.d_model))
    _refuse(inner, "D_has_hdim", mixer.D_has_hdim, (False,))
    _refuse(inner, "rmsnorm", mixer.rmsnorm, (True,))
    _refuse(inner, "norm_before_gate", mixer.norm_before_gate, (False,))
    _refuse(inner, "dt_limit", _limit(mixer.dt_limit), (NO_LIMIT,))
    second = mixer.layer == "Mamba2"
    return MambaConfig(
        d_model=values.d_model,
        n_layer=values.n_layer,
        vocab_size=values.vocab_size,
        pad_vocab_size_multiple=values.pad_vocab_size_multiple,
        ssm="mamba2" if second else "mamba1",
        d_state=mixer.d_state or (128 if second else 16),
        d_conv=mixer.d_conv,
        expand=mixer.expand,
        headdim=mixer.headdim,
        ngroups=mixer.ngroups,
        chunk_size=mixer.chunk_size,
        dt_rank=None if mixer.dt_rank == "auto" else mixer.dt_rank,
        norm_eps=values.norm_epsilon,
        residual_in_fp32=values.residual_in_fp32,
    )


def _transformers_config(values: _Transformers, where: str) -> MambaConfig:
    second = values.model_type == "mamba2"
    _refuse(where, "use_bias", values.use_bias, (False,))
    _refuse(where, "use_conv_bias", values.use_conv_bias, (True,))
    _refuse(where, "hidden_act", values.hidden_act, ("silu", "swish"))
    _refuse(where, "time_step_limit", _limit(values.time_step_limit), (NO_LIMIT,))
    if second and values.head_dim is None:
        raise CheckpointError(f"{where} lacks the field 'head_dim'.")
    config = MambaConfig(
        d_model=values.hidden_size,
        n_layer=values.num_hidden_layers,
        vocab_size=values.vocab_size,
        pad_vocab_size_multiple=1,  # transformers writes the padded size
        ssm="mamba2" if second else "mamba1",
        d_state=values.state_size or (128 if second else 16),
        d_conv=values.conv_kernel,
        expand=values.expand,
        dt_rank=None if second or values.time_step_rank == "auto" else values.time_step_rank,
        headdim=values.head_dim or 64,
        ngroups=values.n_groups if second else 1,
        chunk_size=values.chunk_size if second else 256,
        norm_eps=values.layer_norm_epsilon,
        gated_norm_eps=values.layer_norm_epsilon if second else 1e-5,
        residual_in_fp32=values.residual_in_fp32,
    )
    if second:
        _refuse(where, "num_heads", values.num_heads, (config.n_heads,))
    return config


NO_LIMIT = (0.0, float("inf"))
"""Bounds of a step size that is not bounded."""


def _limit(bounds: tuple[Bound, Bound] | None) -> tuple[float, float]:
    if bounds is None:
        return NO_LIMIT
    low, high = (float("inf" if isinstance(bound, dict) else bound) for bound in bounds)
    return low, high


def _shaped(values: Mapping[str, Any], kind: type, where: str) -> Any:
    """Files of other programs hold fields that are not read."""
    return shape(values, kind, where=where, error=CheckpointError, spare=True)


def _refuse(where: str, field: str, value: Any, supported: tuple) -> None:
    if value not in supported:
        raise CheckpointError(
            f"{where}: {field} is {value!r:.100}; supported: {', '.join(map(repr, supported))}."
        )
