"""Reading LoRA adapters from disk with numpy alone, and refusing, by file and field, what cannot be merged exactly.

Layout: adapter_config.json and adapter_model.safetensors as peft writes them
(https://huggingface.co/docs/peft/developer_guides/checkpoint). torch is not needed, and never imported.
"""

import json
import math
import re
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from trainyard.data.files import sha256_file

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MAX_HEADER = 100_000_000
DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}
FACTORS = {"lora_A.weight": "A", "lora_B.weight": "B", "lora_embedding_A": "A", "lora_embedding_B": "B"}

# Fields that change nothing about what an adapter adds to its base, or that are looked at one by one below.
KNOWN = {
    "peft_type", "task_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode",
    "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "target_modules", "exclude_modules",
    "layers_to_transform", "layers_pattern", "fan_in_fan_out", "bias", "init_lora_weights", "lora_dropout",
    "megatron_config", "megatron_core", "corda_config", "eva_config", "loftq_config", "lora_ga_config",
    "ensure_weight_tying", "runtime_config", "qalora_group_size",
}  # fmt: skip
# Fields that make an adapter more than B·A on named layers, with what they do.
MORE = {
    "use_dora": "DoRA rescales whole weights, so its adapters do not add up",
    "modules_to_save": "whole layers were trained beside the factors",
    "lora_bias": "the factors have biases",
    "layer_replication": "the base's layers are replicated",
    "trainable_token_indices": "embeddings of single tokens were trained",
    "target_parameters": "adapters on bare parameters are not supported",
    "use_qalora": "QA-LoRA pools its input",
    "use_bdlora": "its factors are block-diagonal",
    "alora_invocation_tokens": "it is switched on by tokens",
    "arrow_config": "it is a router of adapters",
    "kasa_config": "it rescales the base's singular values",
}
# Initialisations that leave the base's own weights as they were. PiSSA, OLoRA, CorDA, LoftQ and their like do not.
PLAIN_INIT = (True, False, None, "gaussian", "orthogonal", "eva")


class AdapterError(ValueError):
    """An adapter that cannot be used, with file, field and reason."""


@dataclass(frozen=True)
class Tensor:
    """Where a tensor's numbers are: its type, shape, and bytes in the data part of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def count(self) -> int:
        return math.prod(self.shape)


class Adapter:
    """One adapter folder, opened and checked. Raises AdapterError."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.config = read_config(self.folder)
        self.path = self.folder / WEIGHTS
        if not self.path.is_file():
            pickled = self.folder / "adapter_model.bin"
            danger = "only a pickle, adapter_model.bin, which could run any code; save it as safetensors"
            why = danger if pickled.exists() else "no such file"
            raise AdapterError(f"{self.path}: {why}")
        self.tensors, self._start, self.metadata = read_header(self.path)
        if not self.tensors:
            raise AdapterError(f"{self.path}: holds no tensors")
        self._map = np.memmap(self.path, np.uint8, "r")
        self.modules = self._pair()

    def array(self, name: str) -> np.ndarray:
        """A tensor as float32 (float64 stays); NaN and infinity are refused."""
        tensor = self.tensors[name]
        raw = self._map[self._start + tensor.start : self._start + tensor.end].view(DTYPES[tensor.dtype]).reshape(tensor.shape)
        if tensor.dtype == "BF16":
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        values = raw if tensor.dtype == "F64" else raw.astype(np.float32, copy=False)
        if not np.isfinite(values).all():
            raise AdapterError(f"{self.path}: tensor '{name}' holds NaN or infinity; train this adapter again")
        return values

    def _pair(self) -> dict[str, dict[str, str]]:
        """{module: {"A": tensor name, "B": tensor name}}, sorted; ranks checked against the config."""
        modules: dict[str, dict[str, str]] = {}
        for name in self.tensors:
            end = next((e for e in FACTORS if name.endswith("." + e)), None)
            if end is None:
                raise AdapterError(f"{self.path}: tensor '{name}' is neither a lora_A nor a lora_B; only plain LoRA can be merged exactly")
            modules.setdefault(name[: -len(end) - 1], {})[FACTORS[end]] = name
        for module, pair in modules.items():
            if set(pair) != {"A", "B"}:
                raise AdapterError(f"{self.path}: '{module}' has no lora_{'A' if 'B' in pair else 'B'}")
            a, b, rank = self.tensors[pair["A"]].shape, self.tensors[pair["B"]].shape, self.rank(module)
            if len(a) < 2 or len(b) < 2 or a[0] != b[1] or any(d != 1 for d in b[2:]):
                raise AdapterError(f"{self.path}: '{module}': shapes {a} and {b} do not multiply")
            if a[0] != rank:
                raise AdapterError(f"{self.path}: '{module}' has rank {a[0]}, but r in {CONFIG} says {rank}")
        return dict(sorted(modules.items()))

    def rank(self, module: str) -> int:
        return int(pattern_value(self.config.get("rank_pattern"), module, self.config["r"]))

    def scale(self, module: str) -> float:
        """What B·A is multiplied by: alpha / r, or alpha / √r with rsLoRA (https://arxiv.org/abs/2312.03732)."""
        return lora_scale(self.config, module)

    @cached_property
    def sha256(self) -> str:
        return sha256_file(self.path)

    @property
    def base_identity(self) -> str:
        return str(self.metadata.get("base_identity") or "")


def lora_scale(config: dict[str, Any], module: str) -> float:
    rank = pattern_value(config.get("rank_pattern"), module, config["r"])
    alpha = pattern_value(config.get("alpha_pattern"), module, config["lora_alpha"])
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def pattern_value(pattern: dict[str, Any] | None, module: str, default: Any) -> Any:
    """peft's rule: the first key that, as a regular expression, ends the module's name at a dot; else the default."""
    name = module.removeprefix("base_model.model.")
    for key, value in (pattern or {}).items():
        if re.fullmatch(rf"(.*\.)?({key})", name):
            return value
    return default


def read_config(folder: Path) -> dict[str, Any]:
    """adapter_config.json, refused by field where it is not plain LoRA."""
    path = folder / CONFIG
    if not folder.is_dir():
        raise AdapterError(f"{folder}: no such folder; give the folder of an adapter")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AdapterError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise AdapterError(f"{path}: not JSON: {error}") from None
    if not isinstance(config, dict):
        raise AdapterError(f"{path}: expected a JSON object")
    if config.get("peft_type") != "LORA":
        raise AdapterError(f"{path}: peft_type: {config.get('peft_type')} adapters are not LoRA and cannot be merged")
    for field in ("r", "lora_alpha"):
        value = config.get(field)
        if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0 or not math.isfinite(value):
            raise AdapterError(f"{path}: {field}: expected a number above 0, found {value!r}")
    for field, why in MORE.items():
        if config.get(field):
            raise AdapterError(f"{path}: {field}: {why}; such adapters cannot be merged exactly")
    if config.get("bias", "none") != "none":
        raise AdapterError(f"{path}: bias: '{config['bias']}' trains the base's biases too; such adapters cannot be merged exactly")
    init = config.get("init_lora_weights", True)
    if init not in PLAIN_INIT:
        raise AdapterError(f"{path}: init_lora_weights: '{init}' may change the base's own weights; convert it to plain LoRA first")
    for field, value in config.items():
        if field not in KNOWN and field not in MORE and value not in (None, False, "", [], {}):
            raise AdapterError(f"{path}: {field}: this program does not know what {json.dumps(value)[:60]} does to the adapter")
    for field in ("rank_pattern", "alpha_pattern"):
        for key, value in (config.get(field) or {}).items():
            if not isinstance(value, int | float) or not value > 0:
                raise AdapterError(f"{path}: {field}: '{key}' must be a number above 0, found {value!r}")
            try:
                re.compile(key)
            except re.error as error:
                raise AdapterError(f"{path}: {field}: '{key}' is not a regular expression: {error}") from None
    return config


def read_header(path: Path) -> tuple[dict[str, Tensor], int, dict[str, Any]]:
    """Tensors by name, where the data start, and the metadata; every claim is checked against the file."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if len(head) < 8 or length > min(size - 8, MAX_HEADER):
            raise AdapterError(f"{path}: not a whole safetensors file: its header claims {length} bytes, the file has {size}")
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError) as error:
            raise AdapterError(f"{path}: its header is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise AdapterError(f"{path}: its header is not a JSON object")
    metadata = header.pop("__metadata__", None) or {}
    tensors = {}
    for name, entry in header.items():
        try:
            shape = tuple(int(d) for d in entry["shape"])
            start, end = (int(x) for x in entry["data_offsets"])
            dtype = entry["dtype"]
        except (KeyError, TypeError, ValueError):
            raise AdapterError(f"{path}: tensor '{name}' is described in a way this program does not know") from None
        if dtype not in DTYPES:
            raise AdapterError(f"{path}: tensor '{name}' is of type {dtype}; a LoRA factor is F32, F16, BF16 or F64")
        need = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
        if min(shape, default=0) < 1 or end - start != need or not 0 <= start <= end <= size - 8 - length:
            raise AdapterError(f"{path}: tensor '{name}' lies outside the file (is it truncated?) or has another size than its shape")
        tensors[name] = Tensor(dtype, shape, start, end)
    return tensors, 8 + length, metadata


def check_together(adapters: list[Adapter]) -> None:
    """That the adapters are of the same base and kind, compared field by field. Raises AdapterError naming both values."""
    first = adapters[0]
    for other in adapters[1:]:
        if first.base_identity and other.base_identity:
            if first.base_identity != other.base_identity:
                raise AdapterError(
                    f"{other.path}: trained on another base than {first.path}: weights {other.base_identity[:12]} against "
                    f"{first.base_identity[:12]} ({other.config.get('base_model_name_or_path')}); adapters add up on one base only"
                )
        else:
            _same(first, other, "base_model_name_or_path")
        for field in ("r", "lora_alpha", "use_rslora", "task_type", "rank_pattern", "alpha_pattern", "fan_in_fan_out"):
            _same(first, other, field)
        _same(first, other, "target_modules")
        missing, extra = sorted(set(first.modules) - set(other.modules)), sorted(set(other.modules) - set(first.modules))
        if missing or extra:
            what = f"lacks '{missing[0]}'" if missing else f"has '{extra[0]}' besides"
            raise AdapterError(f"{other.path}: {what}, unlike {first.path}; were they trained with the same target_modules and base?")
        for module, pair in first.modules.items():
            for factor, name in pair.items():
                a, b = first.tensors[name].shape, other.tensors[other.modules[module][factor]].shape
                if a != b:
                    raise AdapterError(f"{other.path}: tensor '{name}' has shape {b}, in {first.path} {a}")


def _same(first: Adapter, other: Adapter, field: str) -> None:
    a, b = (_plain(adapter.config.get(field)) for adapter in (first, other))
    if a != b:
        raise AdapterError(f"{other.folder / CONFIG}: {field}: {b}, but {first.folder / CONFIG} has {a}; train all with one setting")


def _plain(value: Any) -> Any:
    """Lists of names in order; nothing, false and empty are one."""
    if isinstance(value, list):
        return sorted(map(str, value))
    return value or None
