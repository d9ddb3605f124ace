"""Merging LoRA adapters exactly: the mean of the updates B·A, not of the factors, without a matrix of the base's size.

The weighted sum Σ wᵢ sᵢ Bᵢ·Aᵢ is one product of the concatenated factors, [w₁s₁B₁ … wₖsₖBₖ]·[A₁; …; Aₖ]: an adapter
of rank K·r that any LoRA runtime loads. With a rank or a tolerance it is cut to the best approximation there is. Strategies
that work on the values make something that is not of low rank; their result is approximated from blocks of rows. numpy only;
one layer is in memory at a time.
"""

import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from trainyard.data.files import json_lines, output_folder
from trainyard.lora.adapter import WEIGHTS, Adapter
from trainyard.lora.adapter_config import CONFIG, AdapterError, lora_scale, with_ranks
from trainyard.lora.certificate import LayerFigures, Measures, measure
from trainyard.lora.compatible import check_together, compare_configs
from trainyard.lora.in_order import in_order
from trainyard.lora.low_rank import Layer, rank_within, squared_change, squared_change_of_b
from trainyard.lora.number_types import OUTPUT, decode, encode
from trainyard.lora.recipe import Recipe
from trainyard.lora.row_blocks import Approximation, approximate
from trainyard.lora.strategies import strategy as load_strategy
from trainyard.lora.strategies.known import Known
from trainyard.lora.tensor_writer import TensorWriter
from trainyard.lora.whole_weights import merge_biases, refuse_whole_weights, write_whole

CERTIFICATE = "certificate.json"
BLOCK = 1 << 17  # values of one update that are in memory at a time


def merge_adapters(
    folders: Sequence[str | Path],
    output: str | Path,
    strategy: str = "average",
    *,
    losses: Sequence[float] | None = None,
    samples: Sequence[float] | None = None,
    threads: int = 1,
    say: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> dict[str, Any]:
    """Merge adapters into `output` (adapter_model.safetensors, adapter_config.json, certificate.json); returns the certificate.

    `options`: fields of Recipe. `losses`, `samples`: validation loss and training samples of each adapter, where the strategy or
    the weights ask for them. `threads`: layers at a time. Raises AdapterError, and then leaves the output as it was.
    """
    recipe = Recipe(strategy, **options)
    recipe.check()
    output, known = Path(output), Known(len(folders), recipe.weights, losses, samples)
    if not folders:
        raise AdapterError("no adapters to merge; give their folders")
    known.check()
    shares = load_strategy(strategy).shares(known)
    adapters = [Adapter(folder) for folder in folders]
    check_together(adapters, recipe.mixed, recipe.same_base)
    if any(output.exists() and output.samefile(adapter.folder) for adapter in adapters):
        raise AdapterError(f"{output}: is one of the adapters to merge; give another folder for the result")
    with ThreadPoolExecutor(threads) as pool:
        try:
            with output_folder(output) as temporary:
                found = Merge(adapters, shares, recipe, partial(in_order, pool=pool, ahead=2 * threads), say).write(temporary)
                certificate = {
                    "strategy": strategy,
                    "base_model": adapters[0].config.get("base_model_name_or_path"),
                    "base_identity": adapters[0].base_identity,
                    "weights": [float(w) for w in shares],
                    "weighted_by": recipe.weights if isinstance(recipe.weights, str) else "given" if recipe.weights else None,
                    "losses": None if losses is None else [float(x) for x in losses],
                    "samples": None if samples is None else [int(x) for x in samples],
                    **({"density": recipe.density, "seed": recipe.seed} if recipe.on_values else {}),
                    **found,
                    "bytes": (temporary / WEIGHTS).stat().st_size,
                    "inputs": [{"folder": str(x.folder), "sha256": x.sha256, "bytes": x.path.stat().st_size} for x in adapters],
                    "same_file": len({x.sha256 for x in adapters}) < len(adapters),
                    "configs": compare_configs(adapters),
                }
                (temporary / CERTIFICATE).write_text(json_lines(certificate) + "\n", encoding="utf-8")
        finally:
            pool.shutdown(cancel_futures=True)
    return certificate


class Merge:
    """One merge: adapters, their shares, what is asked, and how a function is mapped over the layers (see in_order)."""

    def __init__(self, adapters: list[Adapter], shares: np.ndarray, recipe: Recipe, over: Callable[..., Iterator[Any]],
                 say: Callable[[str], None]):  # fmt: skip
        self.adapters, self.shares, self.recipe, self.over, self.say = adapters, shares, recipe, over, say
        self.first, self.stored = adapters[0], OUTPUT[recipe.dtype]
        self.counting = [adapter for adapter, share in zip(adapters, shares) if share > 0]
        self.measures = Measures(shares)
        if recipe.on_values:
            refuse_whole_weights(adapters, recipe.strategy)

    def write(self, folder: Path) -> dict[str, Any]:
        """The result's weights and config; returns the certificate's figures."""
        alone = self.counting[0] if len(self.counting) == 1 else None
        plain = (self.recipe.rank, self.recipe.tolerance, self.recipe.dtype) == (None, None, "float32") and not self.recipe.on_values
        if alone is not None and plain:
            return self._copy(alone, folder)
        ranks = self._ranks()
        scales = {module: self.counting[0].scale(module) for module in self.first.modules}
        config = with_ranks(self.first.config, ranks, scales)
        whole = [(name, self.first.tensors[name].dtype, self.first.tensors[name].shape) for name in self._whole()]
        with TensorWriter(folder / WEIGHTS, [*self._entries(ranks), *whole], self.first.metadata) as writer:
            jobs = [(module, rank, lora_scale(config, module)) for module, rank in ranks.items()]
            for i, (arrays, layer) in enumerate(self.over(self._merged_layer, jobs)):
                for array in arrays:
                    writer.write(array)
                self.measures.add(layer)
                if self.recipe.on_values:
                    self.say(f"layer {i + 1} of {len(ranks)}: {layer.name}")
            untouched = {name: write_whole(writer, self.adapters, self.shares, name) for name in self._whole()}
        _write_config(folder, config)
        figures = self.measures.summary(self.recipe.on_values)
        if self.recipe.tolerance is not None and figures["relative_error"] > self.recipe.tolerance:
            raise AdapterError(
                f"tolerance {self.recipe.tolerance:g} cannot be met in {self.recipe.dtype}: its rounding alone is an error of "
                f"{figures['rounding_error']:.1e}; use --dtype float32"
            )
        exact = not self.recipe.on_values and all(r >= self._sum_of_ranks(m) for m, r in ranks.items())
        result = {"rank": max(ranks.values()), "exact": exact, "dtype": self.recipe.dtype}
        return {**result, **figures, "whole_weights": untouched}

    def layer(self, module: str) -> Layer:
        for adapter in self.adapters:
            adapter.hash_with(module)
        scales = np.array([adapter.scale(module) for adapter in self.adapters])
        layer = Layer(module, [adapter.factors(module) for adapter in self.adapters], scales, self.shares)
        # A number that is none shows in the products, which are needed anyway.
        with np.errstate(invalid="ignore", over="ignore"):
            finite = np.isfinite(layer.gram_a).all() and np.isfinite(layer.gram_b).all()
        if not finite:
            for adapter in self.adapters:
                for name in adapter.modules[module].values():
                    adapter.array(name)
            raise AdapterError(f"{self.first.path}: '{module}' holds numbers too large to multiply, here or in another of the adapters")
        return layer

    def _copy(self, chosen: Adapter, folder: Path) -> dict[str, Any]:
        """The one adapter that counts, byte by byte."""
        for name in chosen.tensors:
            chosen.array(name)
        for module in self.first.modules:
            self.measures.add(measure(self.layer(module), chosen.rank(module), 0.0, 0.0))
        shutil.copyfile(chosen.path, folder / WEIGHTS)
        _write_config(folder, {**chosen.config, "inference_mode": True})
        kinds = {tensor.dtype for tensor in chosen.tensors.values()}
        dtype = ", ".join(sorted(name for name, kind in {**OUTPUT, "float64": "F64"}.items() if kind in kinds))
        result = {"rank": max(map(chosen.rank, chosen.modules)), "exact": True, "dtype": dtype}
        return {**result, **self.measures.summary(), "whole_weights": {}}

    def _sum_of_ranks(self, module: str) -> int:
        return sum(adapter.rank(module) for adapter in self.counting)

    def _ranks(self) -> dict[str, int]:
        """The rank of the result, for every module."""
        full = {module: self._sum_of_ranks(module) for module in self.first.modules}
        if self.recipe.rank is not None:
            most = max(*full.values(), *(max(self._sides(module)) for module in full))
            if self.recipe.rank > most:
                raise AdapterError(f"rank {self.recipe.rank} is more than any of these layers can have; {max(full.values())} is exact")
            return dict.fromkeys(full, self.recipe.rank)
        if self.recipe.tolerance is None:
            return full
        # What rounding to the result's type adds is not known yet, and small beside any tolerance that makes sense.
        least = rank_within(list(self.over(lambda module: self.layer(module).spectrum, full)), self.recipe.tolerance)
        return {module: min(rank, least) for module, rank in full.items()}

    def _sides(self, module: str) -> tuple[int, int]:
        """Inputs and outputs of a module."""
        wide, tall = (self.first.tensors[self.first.modules[module][factor]].shape for factor in "AB")
        return math.prod(wide[1:]), tall[0]

    def _entries(self, ranks: dict[str, int]) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        for module, rank in ranks.items():
            parts = self.first.modules[module]
            wide, tall = (self.first.tensors[parts[factor]].shape for factor in "AB")
            yield parts["A"], self.stored, (rank, *wide[1:])
            yield parts["B"], self.stored, (tall[0], rank, *tall[2:])
            if "bias" in parts:
                yield parts["bias"], self.stored, (tall[0],)

    def _whole(self) -> list[str]:
        return sorted([*self.first.trained, *self.first.frozen])

    def _merged_layer(self, job: tuple[str, int, float]) -> tuple[list[np.ndarray], LayerFigures]:
        """One layer's arrays as they are stored, and its figures. `job`: module, rank and scale of the result."""
        module, rank, scale = job
        layer, approximation = self.layer(module), None
        exact = not self.recipe.on_values and rank == self._sum_of_ranks(module)
        if self.recipe.on_values:
            made = self._approximated(layer, rank)
            a, b, approximation = made.a, made.b / scale, (made.squared_norm, made.squared_error)
        else:
            a, b = layer.mean(scale) if exact else layer.best(rank, scale)
        small_a, small_b = encode(a, self.stored), encode(b, self.stored)
        biases = [merge_biases(self.adapters, self.shares, module)] if "bias" in self.first.modules[module] else []
        loaded_a, loaded_b = decode(small_a, self.stored), decode(small_b, self.stored)
        if exact and self.stored == "F32" and self._float32(module):
            counts = layer.counting
            rounding = squared_change_of_b(loaded_b, b, layer.gram_a[np.ix_(counts, counts)])
        else:
            rounding = squared_change(loaded_a, loaded_b, a, b)
        rounding *= scale**2
        if approximation is not None:
            # What the distance cannot resolve is at least the rounding.
            error = max(rounding, layer.squared_distance(loaded_a.astype(np.float64), loaded_b * np.float64(scale)))
        else:
            # What the best approximation leaves out is at right angles to it and to its rounding, but for products of roundings.
            error = rounding if exact else rounding + layer.squared_rest(rank)
        arrays = [small_a, small_b, *(encode(bias / scale, self.stored) for bias in biases)]
        return arrays, measure(layer, rank, error, rounding, approximation)

    def _float32(self, module: str) -> bool:
        """Whether no A of the module has more digits than a float32."""
        return all(adapter.tensors[adapter.modules[module]["A"]].dtype != "F64" for adapter in self.counting)

    def _approximated(self, layer: Layer, rank: int) -> Approximation:
        """The best approximation of what a strategy on values makes of a layer, from blocks of its rows."""
        merge = load_strategy(self.recipe.strategy).merger(layer, self.recipe.density, self.recipe.seed)
        step = max(1, BLOCK // layer.in_width)

        def blocks() -> Iterator[tuple[slice, np.ndarray]]:
            for first in range(0, layer.out_width, step):
                place = slice(first, min(first + step, layer.out_width))
                yield place, merge(layer.rows(place), first)

        return approximate(blocks, layer.out_width, layer.a, rank)


def _write_config(folder: Path, config: dict[str, Any]) -> None:
    (folder / CONFIG).write_text(json.dumps(config, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
