"""Merging LoRA adapters exactly: the mean of the deltas B·A, not of the factors, without a matrix of the base's size.

The weighted sum Σ wᵢ sᵢ Bᵢ·Aᵢ is one product of the concatenated factors, [w₁s₁B₁ … wₖsₖBₖ]·[A₁; …; Aₖ]: an adapter
of rank K·r that any LoRA runtime loads. With a fixed rank it is cut to the best approximation of that rank (Eckart
and Young, 1936), found from Gram matrices of K·r on a side. numpy only; one layer is in memory at a time.
"""

import json
import shutil
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainyard.data.files import replacing, write_json
from trainyard.lora.adapter import CONFIG, WEIGHTS, Adapter, AdapterError, check_together, lora_scale
from trainyard.lora.certificate import Agreement

STRATEGIES = ("average", "weighted", "best")


def merge_adapters(
    folders: Sequence[str | Path],
    output: str | Path,
    strategy: str = "average",
    weights: Sequence[float] | None = None,
    losses: Sequence[float] | None = None,
    rank: int | None = None,
) -> dict[str, Any]:
    """Merge adapters into `output` (adapter_model.safetensors, adapter_config.json, certificate.json); returns the certificate.

    `average`: equal weights. `weighted`: `weights` as given, scaled to sum 1, or without them 1 / validation loss of
    `losses`. `best`: the adapter of the lowest of `losses`, as it is. `rank`: of the result, else exact.
    Raises AdapterError before anything is written.
    """
    adapters = [Adapter(folder) for folder in folders]
    if not adapters:
        raise AdapterError("no adapters to merge; give their folders")
    check_together(adapters)
    shares, chosen = merge_weights(strategy, len(adapters), weights, losses)
    for adapter in adapters:  # a NaN must be found before the first byte is written
        for name in adapter.tensors:
            adapter.array(name)
    config = _merged_config(adapters, rank if chosen is None else None, chosen)
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    agreement = Agreement(shares)
    if chosen is None:
        _write_merged(adapters, shares, config, rank, output, agreement)
    else:
        for module in adapters[0].modules:
            agreement.add(module, _grams(_factors(adapters, module)), None, (np.zeros(0), np.zeros(0)))
        with replacing(output / WEIGHTS) as temporary:
            shutil.copyfile(adapters[chosen].path, temporary)
    write_json(output / CONFIG, config)
    certificate = {
        "strategy": strategy,
        "rank": config["r"],
        "exact": chosen is not None or rank is None,
        "base_model": config.get("base_model_name_or_path"),
        "base_identity": adapters[0].base_identity,
        "weights": [float(w) for w in shares],
        "losses": None if losses is None else [float(x) for x in losses],
        "bytes": (output / WEIGHTS).stat().st_size,
        "inputs": [_describe(adapter) for adapter in adapters],
        "same_file": len({adapter.sha256 for adapter in adapters}) < len(adapters),
        **agreement.summary(),
    }
    write_json(output / "certificate.json", certificate)
    return certificate


def merge_weights(
    strategy: str, count: int, weights: Sequence[float] | None = None, losses: Sequence[float] | None = None
) -> tuple[np.ndarray, int | None]:
    """Shares of the adapters, summing to 1, and for `best` which one. Raises AdapterError."""
    if strategy not in STRATEGIES:
        raise AdapterError(f"strategy must be one of {', '.join(STRATEGIES)}, not '{strategy}'")
    for name, numbers in (("weights", weights), ("losses", losses)):
        if numbers is not None and len(numbers) != count:
            raise AdapterError(f"{len(numbers)} {name} for {count} adapters; give one for each")
    if weights is not None and strategy != "weighted":
        raise AdapterError(f"weights were given, but the strategy is '{strategy}'; use --strategy weighted")
    if strategy == "average":
        return np.full(count, 1.0 / count), None
    if weights is not None:
        given = np.asarray(weights, np.float64)
        if not np.isfinite(given).all() or (given < 0).any() or given.sum() <= 0:
            raise AdapterError(f"weights must be numbers of 0 or more with a sum above 0, not {', '.join(f'{w:g}' for w in given)}")
        return given / given.sum(), None
    if losses is None:
        raise AdapterError(f"strategy '{strategy}' needs {'weights or ' if strategy == 'weighted' else ''}each adapter's validation loss")
    values = np.asarray(losses, np.float64)
    if not np.isfinite(values).all() or (values < 0).any():
        raise AdapterError(f"validation losses must be finite numbers of 0 or more, not {', '.join(f'{x:g}' for x in values)}")
    if strategy == "best":
        chosen = int(values.argmin())
        return np.eye(count)[chosen], chosen
    inverse = 1.0 / np.maximum(values, 1e-9)
    return inverse / inverse.sum(), None


def best_rank(a: np.ndarray, b: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """The best approximation of b·a of a rank: factors (rank, in) and (out, rank), equally large, float64.

    With symmetric roots P = (aaᵀ)^½ and Q = (bᵀb)^½ the singular values of b·a are those of the small Q·P.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    root_a, inverse_a = _root(a @ a.T)
    root_b, inverse_b = _root(b.T @ b)
    u, s, vt = np.linalg.svd(root_b @ root_a)
    size = np.sqrt(s[:rank])
    small_a, small_b = (size[:, None] * vt[:rank]) @ inverse_a @ a, b @ (inverse_b @ u[:, :rank]) * size
    if len(size) < rank:  # a higher rank than there is: zeros
        small_a = np.pad(small_a, ((0, rank - len(size)), (0, 0)))
        small_b = np.pad(small_b, ((0, 0), (0, rank - len(size))))
    return small_a, small_b


def _root(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric square root of a Gram matrix and its pseudo-inverse; directions of no length are left out."""
    values, vectors = np.linalg.eigh(gram)
    keep = values > max(values[-1], 0.0) * len(values) * np.finfo(np.float64).eps
    root = np.sqrt(np.where(keep, values, 0.0))
    inverse = np.divide(1.0, root, out=np.zeros_like(root), where=keep)
    return (vectors * root) @ vectors.T, (vectors * inverse) @ vectors.T


def _factors(adapters: list[Adapter], module: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A (r, in) and scaled B (out, r) of a module, an array an adapter, float64 for B; kernels of convolutions flattened."""
    pairs = [adapter.modules[module] for adapter in adapters]
    a = [x.array(p["A"]).reshape(x.tensors[p["A"]].shape[0], -1) for x, p in zip(adapters, pairs)]
    b = [x.array(p["B"]).reshape(x.tensors[p["B"]].shape[:2]).astype(np.float64) * x.scale(module) for x, p in zip(adapters, pairs)]
    return a, b


def _grams(factors: tuple[list[np.ndarray], list[np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Gram matrices of B and of A over all adapters, each (K, r, K, r), float64."""
    a, b = np.concatenate(factors[0]).astype(np.float64), np.concatenate(factors[1], 1)
    shape = (len(factors[0]), len(factors[0][0])) * 2
    return (b.T @ b).reshape(shape), (a @ a.T).reshape(shape)


def _merged_config(adapters: list[Adapter], rank: int | None, chosen: int | None) -> dict[str, Any]:
    """The result's adapter_config.json: alpha / r stays what it was, so that factors need no scaling of their own."""
    first = adapters[0 if chosen is None else chosen].config
    config = {**first, "inference_mode": True}
    if chosen is not None:
        return config
    count = len(adapters)
    old = {module: adapters[0].rank(module) for module in adapters[0].modules}
    if rank is None:
        config["r"], config["lora_alpha"] = first["r"] * count, first["lora_alpha"] * count
        for field in ("rank_pattern", "alpha_pattern"):
            config[field] = {key: value * count for key, value in (first.get(field) or {}).items()}
        return config
    if rank < 1:
        raise AdapterError(f"rank must be 1 or more, not {rank}")
    if len(set(old.values())) > 1:
        raise AdapterError("rank: these adapters have a rank_pattern; merge them exactly, without --rank")
    config["r"], config["lora_alpha"], config["rank_pattern"], config["alpha_pattern"] = rank, rank, {}, {}
    return config


def _write_merged(adapters: list[Adapter], shares: np.ndarray, config: dict, rank: int | None, output: Path, agreement: Agreement) -> None:
    """The result's tensors, float32, layer by layer; the header is known before the numbers are."""
    first = adapters[0]
    header: dict[str, Any] = {"__metadata__": {**{k: str(v) for k, v in first.metadata.items()}, "format": "pt"}}
    at = 0
    for module, pair in first.modules.items():
        size = rank or len(adapters) * first.rank(module)
        wide, tall = first.tensors[pair["A"]].shape, first.tensors[pair["B"]].shape
        for name, shape in ((pair["A"], (size, *wide[1:])), (pair["B"], (tall[0], size, *tall[2:]))):
            length = int(np.prod(shape)) * 4
            header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + length]}
            at += length
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with replacing(output / WEIGHTS) as temporary, open(temporary, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for module in first.modules:
            factors = _factors(adapters, module)
            true_a, true_b = np.concatenate(factors[0]), np.concatenate([w * b for w, b in zip(shares, factors[1])], 1)
            scale = lora_scale(config, module)
            a, b = (true_a, true_b) if rank is None else best_rank(true_a, true_b, rank)
            a, b = np.ascontiguousarray(a, np.float32), np.ascontiguousarray(b / scale, np.float32)
            file.write(a.tobytes())
            file.write(b.tobytes())
            agreement.add(module, _grams(factors), (a, b.astype(np.float64) * scale), (true_a, true_b))


def _describe(adapter: Adapter) -> dict[str, Any]:
    fields = ("r", "lora_alpha", "target_modules", "use_rslora", "task_type", "base_model_name_or_path")
    config = {field: adapter.config.get(field) for field in fields}
    return {"folder": str(adapter.folder), "sha256": adapter.sha256, "bytes": adapter.path.stat().st_size, "config": config}
