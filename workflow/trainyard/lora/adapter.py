"""Reading LoRA adapters from disk with numpy alone: factors by module, biases, and weights that were trained whole.

Layout: adapter_config.json and adapter_model.safetensors as peft writes them
(https://huggingface.co/docs/peft/developer_guides/checkpoint). torch is not needed, and never imported.
"""

import hashlib
from functools import cached_property
from pathlib import Path
from threading import Lock

import numpy as np

from trainyard.data.tensors import TensorFileError, map_data, read_header, tensors_in
from trainyard.lora.adapter_config import CONFIG, AdapterError, lora_rank, lora_scale, read_config
from trainyard.lora.number_types import FLOATS, decode

WEIGHTS = "adapter_model.safetensors"
FACTORS = {
    "lora_A.weight": "A", "lora_B.weight": "B", "lora_embedding_A": "A", "lora_embedding_B": "B", "lora_B.bias": "bias",
}  # fmt: skip
# Where peft stores a base's embedding beside an adapter that targets it (peft.utils.other.EMBEDDING_LAYER_NAMES).
EMBEDDINGS = ("embed_tokens", "lm_head")


class Adapter:
    """One adapter folder, opened and checked. Raises AdapterError.

    `modules`: {module: {"A": tensor, "B": tensor, "bias": tensor, where there is one}}, sorted. `trained`: tensors of whole
    weights (modules_to_save, biases). `frozen`: tensors of the base that peft stored beside the adapter.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.config = read_config(self.folder)
        self.path = self.folder / WEIGHTS
        if not self.path.is_file():
            pickled = self.folder / "adapter_model.bin"
            danger = "only a pickle, adapter_model.bin, which could run any code; save it as safetensors"
            why = danger if pickled.exists() else "no such file"
            raise AdapterError(f"{self.path}: {why}")
        try:
            header = read_header(self.path)
        except TensorFileError as error:
            raise AdapterError(str(error)) from None
        self.tensors, self.metadata = header.tensors, header.metadata
        self._data = map_data(self.path, header)
        self._arrays = tensors_in(self._data, header)
        with open(self.path, "rb") as file:
            self._digest, self._hashed, self._hashing = hashlib.sha256(file.read(header.start)), 0, Lock()
        if not self.tensors:
            raise AdapterError(f"{self.path}: holds no tensors")
        for name, tensor in self.tensors.items():
            if tensor.dtype not in FLOATS:
                raise AdapterError(f"{self.path}: tensor '{name}' is of type {tensor.dtype}; a LoRA factor is F32, F16, BF16 or F64")
            if not tensor.count:
                raise AdapterError(f"{self.path}: tensor '{name}' is empty")
        self.modules: dict[str, dict[str, str]] = {}
        self.trained: list[str] = []
        self.frozen: list[str] = []
        for name in self.tensors:
            self._sort_in(name)
        self.modules = dict(sorted(self.modules.items()))
        self._ranks = {module: lora_rank(self.config, module) for module in self.modules}
        self._scales = {module: lora_scale(self.config, module) for module in self.modules}
        for module, parts in self.modules.items():
            self._check(module, parts)

    def array(self, name: str) -> np.ndarray:
        """A tensor as float32 (float64 stays); NaN and infinity are refused."""
        values = decode(self.raw(name), self.tensors[name].dtype)
        self.refuse_not_finite(name, values)
        return values

    def refuse_not_finite(self, name: str, values: np.ndarray) -> None:
        if not np.isfinite(values).all():
            raise AdapterError(f"{self.path}: tensor '{name}' holds NaN or infinity; train this adapter again")

    def raw(self, name: str) -> np.ndarray:
        """A tensor as it is stored, mapped."""
        return self._arrays[name]

    def factors(self, module: str) -> tuple[np.ndarray, np.ndarray]:
        """A (r, in) and B (out, r), without the scale, not looked at; kernels of convolutions are flattened into `in`."""
        a, b = (decode(self.raw(name), self.tensors[name].dtype) for name in (self.modules[module][factor] for factor in "AB"))
        return a.reshape(len(a), -1), b.reshape(b.shape[:2])

    def rank(self, module: str) -> int:
        return self._ranks[module]

    def scale(self, module: str) -> float:
        return self._scales[module]

    def _sort_in(self, name: str) -> None:
        end = next((e for e in FACTORS if name.endswith("." + e)), None)
        if end is not None:
            self.modules.setdefault(name[: -len(end) - 1], {})[FACTORS[end]] = name
            return
        parts, saved = name.split("."), self.config.get("modules_to_save") or []
        if any(f".{s}." in f".{name}." for s in saved) or (self.config.get("bias", "none") != "none" and parts[-1] == "bias"):
            self.trained.append(name)
        elif set(parts) & set(EMBEDDINGS) or "base_layer" in parts:
            self.frozen.append(name)
        else:
            raise AdapterError(f"{self.path}: tensor '{name}' is neither a lora_A nor a lora_B; only plain LoRA can be merged exactly")

    def _check(self, module: str, parts: dict[str, str]) -> None:
        if not {"A", "B"} <= set(parts):
            raise AdapterError(f"{self.path}: '{module}' has no lora_{'A' if 'B' in parts else 'B'}")
        a, b, rank = self.tensors[parts["A"]].shape, self.tensors[parts["B"]].shape, self.rank(module)
        if len(a) > 2 and len(b) == len(a) and a[0] != b[1] and a[0] % b[1] == 0 and a[0] == rank:
            raise AdapterError(f"{self.path}: '{module}': a convolution in groups; its factors do not add up and cannot be merged exactly")
        if len(a) < 2 or len(b) < 2 or a[0] != b[1] or any(d != 1 for d in b[2:]):
            raise AdapterError(f"{self.path}: '{module}': shapes {a} and {b} do not multiply")
        if a[0] != rank:
            raise AdapterError(f"{self.path}: '{module}' has rank {a[0]}, but r in {CONFIG} says {rank}")
        if "bias" in parts and self.tensors[parts["bias"]].shape != b[:1]:
            raise AdapterError(f"{self.path}: tensor '{parts['bias']}' has shape {self.tensors[parts['bias']].shape}, not {b[:1]}")

    def hash_with(self, module: str) -> None:
        """Take the file up to the end of a module's tensors into its hash, so that they come from memory once for both."""
        self._hash_to(max(self.tensors[name].end for name in self.modules[module].values()))

    def _hash_to(self, end: int) -> None:
        with self._hashing:
            if end > self._hashed:
                self._digest.update(self._data[self._hashed : end].data)
                self._hashed = end

    @cached_property
    def sha256(self) -> str:
        """Of the file, as it was mapped and merged."""
        self._hash_to(len(self._data))
        return self._digest.hexdigest()

    @property
    def base_identity(self) -> str:
        return str(self.metadata.get("base_identity") or "")
