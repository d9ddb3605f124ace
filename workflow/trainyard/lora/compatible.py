"""Whether adapters belong together: of one base and one kind, compared field by field and tensor by tensor."""

from typing import Any

import numpy as np

from trainyard.lora.adapter import Adapter
from trainyard.lora.adapter_config import CONFIG, AdapterError

ALIKE = ("task_type", "fan_in_fan_out", "target_modules", "bias", "lora_bias", "modules_to_save")
# What a merge of the updates can do without: every adapter counts with its own rank and scale.
SIZES = ("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern")


def check_together(adapters: list[Adapter], mixed: bool = False, same_base: bool = False) -> None:
    """That the adapters are of the same base and kind. `mixed`: ranks and scales may differ. `same_base`: other names of the base
    are taken for the same one. Raises AdapterError that names both values."""
    first = adapters[0]
    for other in adapters[1:]:
        _same_base(first, other, same_base)
        for field in ALIKE if mixed else (*SIZES, *ALIKE):
            _same(first, other, field)
        _same_names(first, other)
        for name, tensor in first.tensors.items():
            a, b = tensor.shape, other.tensors[name].shape
            if mixed and len(a) > 1 and len(a) == len(b):
                # A is (rank, in, …) and B (out, rank, …).
                axis = {n: i for parts in first.modules.values() for n, i in ((parts["A"], 0), (parts["B"], 1))}.get(name)
                a, b = (tuple(d for i, d in enumerate(shape) if i != axis) for shape in (a, b))
            if a != b:
                raise AdapterError(f"{other.path}: tensor '{name}' has shape {other.tensors[name].shape}, in {first.path} {tensor.shape}")
        for name in first.frozen:
            if not same_numbers([first, other], name):
                raise AdapterError(f"{other.path}: tensor '{name}' of the base is not the one in {first.path}; was the vocabulary resized?")


def same_numbers(adapters: list[Adapter], name: str, block: int = 1 << 20) -> bool:
    """Whether a tensor of one shape is bit by bit the same in all adapters, read in blocks."""
    if len({adapter.tensors[name].dtype for adapter in adapters}) > 1:
        return False
    first, *others = (adapter.raw(name).reshape(-1).view(np.uint8) for adapter in adapters)
    return all(np.array_equal(first[i : i + block], x[i : i + block]) for x in others for i in range(0, len(first), block))


def compare_configs(adapters: list[Adapter]) -> dict[str, Any]:
    """Every field of the configs: {"same": {field: value}, "different": {field: [value of each]}}."""
    fields = sorted({field for adapter in adapters for field in adapter.config})
    values = {field: [adapter.config.get(field) for adapter in adapters] for field in fields}
    same = {field for field, found in values.items() if all(_plain(v) == _plain(found[0]) for v in found)}
    return {
        "same": {field: values[field][0] for field in fields if field in same},
        "different": {field: values[field] for field in fields if field not in same},
    }


def _same_base(first: Adapter, other: Adapter, by_word: bool) -> None:
    if not (first.base_identity and other.base_identity):
        if not by_word:
            hint = "adapters add up on one base only; where it is the same under another name or path, say --same-base"
            _same(first, other, "base_model_name_or_path", hint)
    elif first.base_identity != other.base_identity:
        raise AdapterError(
            f"{other.path}: trained on another base than {first.path}: weights {other.base_identity[:12]} against "
            f"{first.base_identity[:12]} ({other.config.get('base_model_name_or_path')}); adapters add up on one base only"
        )


def _same(first: Adapter, other: Adapter, field: str, hint: str = "") -> None:
    a, b = (_plain(adapter.config.get(field)) for adapter in (first, other))
    if a != b:
        by_size = "train all with one setting, or say --mixed: each then counts with its own rank and scale"
        hint = hint or (by_size if field in SIZES else "train all with one setting")
        raise AdapterError(f"{other.folder / CONFIG}: {field}: {b}, but {first.folder / CONFIG} has {a}; {hint}")


def _same_names(first: Adapter, other: Adapter) -> None:
    missing, extra = (sorted(set(x) - set(y)) for x, y in ((first.tensors, other.tensors), (other.tensors, first.tensors)))
    if missing or extra:
        what = f"lacks '{missing[0]}'" if missing else f"has '{extra[0]}' besides"
        raise AdapterError(f"{other.path}: {what}, unlike {first.path}; were they trained with the same target_modules and base?")


def _plain(value: Any) -> Any:
    """Lists of names in order; nothing, false, empty and "none" are one."""
    if isinstance(value, list):
        return sorted(map(str, value))
    return None if value in ("none", 0, "", {}) else value
