"""The `config.json` of a run directory and of a language model, read into the model's own descriptions."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emma_viz.errors import CheckpointError, InputError
from emma_viz.models.config import MambaConfig, VLMConfig, vlm_config_from_dict
from emma_viz.models.presets import LLM_BACKBONES, VISION_BACKBONES, config_from_ids

SECTION = "emma_viz"
"""The object of `config.json` that holds what the official layout has no word for."""
OFFICIAL_FIELDS = (
    "model_id",
    "arch_specifier",
    "vision_backbone_id",
    "llm_backbone_id",
    "image_resize_strategy",
    "llm_max_length",
)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CheckpointError: there is no such file, or it holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"Cannot read {path}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is no JSON: {error}.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object, got a {type(value).__name__}.")
    return value


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
        CheckpointError: a field is missing, unknown, or not supported.
    """
    official = {name: values["model"][name] for name in OFFICIAL_FIELDS if name in values["model"]}
    overrides = dict(values.get(SECTION, {}))
    overrides.pop("provenance", None)
    whole = {"model_id", "family", "vision", "projector", "llm", "llm_backbone_id", "taps"} <= set(overrides)
    try:
        if whole:
            return vlm_config_from_dict(overrides)
        for field, part, known in (
            ("vision_backbone_id", "vision", VISION_BACKBONES),
            ("llm_backbone_id", "llm", LLM_BACKBONES),
        ):
            if part in overrides and official.get(field) not in known:
                raise InputError(
                    f"{field} {official.get(field)!r} is not official, so the `{SECTION}` object must hold the "
                    "whole model description, as save_run_directory writes it"
                )
        base = config_from_ids(**official).to_dict()
        for name, value in overrides.items():
            merge = name in ("llm", "projector") and isinstance(value, dict)
            base[name] = {**base[name], **value} if merge else value
        return vlm_config_from_dict(base)
    except TypeError as error:
        raise CheckpointError(f"{where}: the `model` object lacks a field: {error}.") from error
    except InputError as error:
        raise CheckpointError(f"{where}: {error}") from error


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
    return {"model": model, SECTION: section}


def language_model_config(values: Mapping[str, Any], *, where: str) -> MambaConfig:
    """Describe a language model from its `config.json`, of state-spaces or of transformers.

    Raises:
        CheckpointError: it is no Mamba, or one with parts that are not supported.
    """
    try:
        if values.get("model_type") in ("mamba", "mamba2"):
            return _transformers_config(values, where)
        if "d_model" in values and "n_layer" in values:
            return _state_spaces_config(values, where)
        raise CheckpointError(
            f"{where} describes no Mamba language model: expected `model_type` mamba or mamba2 (transformers), "
            f"or `d_model` and `n_layer` (state-spaces); got {', '.join(sorted(values)[:8])}."
        )
    except KeyError as error:
        raise CheckpointError(f"{where} lacks the field {error}.") from error
    except InputError as error:
        raise CheckpointError(f"{where}: {error}") from error


def _state_spaces_config(values: Mapping[str, Any], where: str) -> MambaConfig:
    ssm = dict(values.get("ssm_cfg") or {})
    layer = ssm.pop("layer", "Mamba1")
    _refuse(where, "ssm_cfg.layer", layer, ("Mamba1", "Mamba2"))
    _refuse(where, "rms_norm", values.get("rms_norm", True), (True,))
    _refuse(where, "d_intermediate", values.get("d_intermediate", 0), (0,))
    _refuse(where, "attn_layer_idx", list(values.get("attn_layer_idx") or []), ([],))
    _refuse(where, "tie_embeddings", values.get("tie_embeddings", True), (True,))
    second = layer == "Mamba2"
    known = ("d_state", "d_conv", "expand", "headdim", "ngroups", "chunk_size", "dt_rank")
    if unknown := sorted(set(ssm) - set(known)):
        raise CheckpointError(f"{where}: ssm_cfg has fields that are not supported: {', '.join(unknown)}.")
    if ssm.get("dt_rank") == "auto":
        del ssm["dt_rank"]
    return MambaConfig(
        d_model=values["d_model"],
        n_layer=values["n_layer"],
        vocab_size=values["vocab_size"],
        pad_vocab_size_multiple=values.get("pad_vocab_size_multiple", 8),
        ssm="mamba2" if second else "mamba1",
        residual_in_fp32=values.get("residual_in_fp32", True),
        **{"d_state": 128 if second else 16, **ssm},
    )


def _transformers_config(values: Mapping[str, Any], where: str) -> MambaConfig:
    second = values["model_type"] == "mamba2"
    _refuse(where, "use_bias", values.get("use_bias", False), (False,))
    _refuse(where, "use_conv_bias", values.get("use_conv_bias", True), (True,))
    _refuse(where, "hidden_act", values.get("hidden_act", "silu"), ("silu", "swish"))
    # transformers writes infinity as {"__float__": "Infinity"}.
    bounds = values.get("time_step_limit") or (0.0, "inf")
    limit = [float(bound["__float__"] if isinstance(bound, dict) else bound) for bound in bounds]
    _refuse(where, "time_step_limit", limit, ([0.0, float("inf")],))
    common = {
        "d_model": values["hidden_size"],
        "n_layer": values["num_hidden_layers"],
        "vocab_size": values["vocab_size"],
        "pad_vocab_size_multiple": 1,  # transformers writes the padded size
        "d_conv": values.get("conv_kernel", 4),
        "expand": values.get("expand", 2),
        "norm_eps": values.get("layer_norm_epsilon", 1e-5),
        "residual_in_fp32": values.get("residual_in_fp32", True),
    }
    if not second:
        rank = values.get("time_step_rank", "auto")
        return MambaConfig(
            **common,
            ssm="mamba1",
            d_state=values.get("state_size", 16),
            dt_rank=None if rank == "auto" else rank,
        )
    config = MambaConfig(
        **common,
        ssm="mamba2",
        d_state=values.get("state_size", 128),
        headdim=values["head_dim"],
        ngroups=values.get("n_groups", 8),
        chunk_size=values.get("chunk_size", 256),
    )
    _refuse(where, "num_heads", values["num_heads"], (config.n_heads,))
    return config


def _refuse(where: str, field: str, value: Any, supported: tuple) -> None:
    if value not in supported:
        raise CheckpointError(f"{where}: {field} is {value!r}; supported: {', '.join(map(repr, supported))}.")
