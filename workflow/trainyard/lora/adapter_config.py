"""adapter_config.json of a LoRA adapter, refused by field where the adapter is more than a sum of products B·A.

Fields as peft 0.21 writes them: https://huggingface.co/docs/peft/package_reference/lora.
"""

import json
import math
import re
from pathlib import Path
from typing import Any

CONFIG = "adapter_config.json"

# Fields that change nothing about what an adapter adds to its base, or that are looked at one by one below.
KNOWN = {
    "peft_type", "task_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode",
    "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "target_modules", "exclude_modules",
    "layers_to_transform", "layers_pattern", "fan_in_fan_out", "bias", "init_lora_weights", "lora_dropout",
    "megatron_config", "megatron_core", "corda_config", "eva_config", "loftq_config", "lora_ga_config", "velora_config",
    "ensure_weight_tying", "runtime_config", "qalora_group_size", "modules_to_save", "lora_bias",
}  # fmt: skip
# Fields that make an adapter more than B·A on named layers, with what they do.
MORE = {
    "use_dora": "DoRA rescales whole weights, so its adapters do not add up",
    "layer_replication": "the base's layers are replicated",
    "trainable_token_indices": "embeddings of single tokens were trained",
    "target_parameters": "adapters on bare parameters are not supported",
    "use_qalora": "QA-LoRA pools its input",
    "use_bdlora": "its factors are block-diagonal",
    "alora_invocation_tokens": "it is switched on by tokens",
    "arrow_config": "it is a router of adapters",
    "kasa_config": "it rescales the base's singular values",
    "monteclora_config": "its factors are drawn at random",
}
# Initialisations that leave the base's own weights as they were. PiSSA, OLoRA, CorDA, LoftQ and their like do not.
PLAIN_INIT = (True, False, None, "gaussian", "orthogonal", "eva", "mica")


class AdapterError(ValueError):
    """An adapter that cannot be used, with file, field and reason."""


def read_config(folder: Path) -> dict[str, Any]:
    """The config of an adapter's folder. Raises AdapterError that names file and field."""
    path = folder / CONFIG
    if not folder.is_dir():
        raise AdapterError(f"{folder}: no such folder; give the folder of an adapter")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AdapterError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{path}: not JSON: {error}") from None
    if not isinstance(config, dict):
        raise AdapterError(f"{path}: expected a JSON object")
    if config.get("peft_type") != "LORA":
        raise AdapterError(f"{path}: peft_type: {config.get('peft_type')} adapters are not LoRA and cannot be merged")
    for field in ("r", "lora_alpha"):
        value: Any = config.get(field)
        if not _positive(value) or (field == "r" and value != int(value)):
            raise AdapterError(f"{path}: {field}: expected a {'whole ' if field == 'r' else ''}number above 0, found {value!r}")
    for field, why in MORE.items():
        if config.get(field):
            raise AdapterError(f"{path}: {field}: {why}; such adapters cannot be merged exactly, train plain LoRA")
    if config.get("bias", "none") not in ("none", "all", "lora_only"):
        raise AdapterError(f"{path}: bias: expected none, all or lora_only, found {config['bias']!r}")
    init = config.get("init_lora_weights", True)
    if init not in PLAIN_INIT:
        raise AdapterError(
            f"{path}: init_lora_weights: '{init}' may change the base's own weights; convert it to plain LoRA first"
            " (peft: save_pretrained with path_initial_model_for_weight_conversion)"
        )
    for field, value in config.items():
        if field not in KNOWN and field not in MORE and value not in (None, False, "", [], {}):
            raise AdapterError(f"{path}: {field}: this program does not know what {json.dumps(value)[:60]} does to the adapter")
    for field in ("rank_pattern", "alpha_pattern"):
        _check_pattern(path, field, config.get(field) or {})
    if not isinstance(config.get("modules_to_save") or [], list):
        raise AdapterError(f"{path}: modules_to_save: expected a list of names, found {config['modules_to_save']!r}")
    return config


def _check_pattern(path: Path, field: str, pattern: Any) -> None:
    if not isinstance(pattern, dict):
        raise AdapterError(f"{path}: {field}: expected names with numbers, found {json.dumps(pattern)[:60]}")
    for key, value in pattern.items():
        if not _positive(value):
            raise AdapterError(f"{path}: {field}: '{key}' must be a number above 0, found {value!r}")
        try:
            re.compile(key)
        except re.error as error:
            raise AdapterError(f"{path}: {field}: '{key}' is not a regular expression: {error}") from None


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def lora_rank(config: dict[str, Any], module: str) -> int:
    return int(pattern_value(config.get("rank_pattern"), module, config["r"]))


def lora_scale(config: dict[str, Any], module: str) -> float:
    """What B·A is multiplied by: alpha / r, or alpha / √r with rsLoRA (https://arxiv.org/abs/2312.03732)."""
    rank, alpha = lora_rank(config, module), pattern_value(config.get("alpha_pattern"), module, config["lora_alpha"])
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def pattern_value(pattern: dict[str, Any] | None, module: str, default: Any) -> Any:
    """peft's rule: the first key that, as a regular expression, ends the module's name at a dot; else the default."""
    name = short_name(module)
    for key, value in (pattern or {}).items():
        if re.fullmatch(rf"(.*\.)?({key})", name):
            return value
    return default


def short_name(module: str) -> str:
    """A module's name in the base model, without the wrapper's part."""
    return module.removeprefix("base_model.model.")


def with_ranks(config: dict[str, Any], ranks: dict[str, int], scales: dict[str, float]) -> dict[str, Any]:
    """The config of plain LoRA with these ranks and scales a module; patterns hold what differs from the commonest."""
    alphas = {m: _whole(scales[m] * rank) for m, rank in ranks.items()}
    rank, alpha = _commonest(ranks), _commonest(alphas)
    plain = {"use_rslora": False, "init_lora_weights": True, "inference_mode": True}
    return {
        **config, **plain, "r": rank, "lora_alpha": alpha,
        "rank_pattern": _pattern(ranks, rank), "alpha_pattern": _pattern(alphas, alpha),
    }  # fmt: skip


def _commonest(values: dict[str, Any]) -> Any:
    held = list(values.values())
    return max(sorted(set(held)), key=held.count)


def _pattern(values: dict[str, Any], default: Any) -> dict[str, Any]:
    """A key a module that differs: its whole name from the start, so that no other module's name ends with it."""
    return {f"^{re.escape(short_name(m))}": v for m, v in values.items() if v != default}


def _whole(alpha: float) -> float:
    """3072.0000000001 as 3072: peft's alphas are whole numbers as a rule, and B takes up what is left."""
    return round(alpha) if abs(alpha - round(alpha)) < 1e-9 * max(1.0, alpha) else alpha
