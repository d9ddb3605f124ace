"""TIES, DARE and magnitude pruning of the updates, against dense float64 matrices; what is written is their best approximation."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
from adapters import SHAPES, adapter, deltas, error, weighted_sum
from trainyard.config import ConfigError
from trainyard.config.merging import Merge as MergeConfig
from trainyard.config.merging import MergeStrategy
from trainyard.dag import Files, Jobs, Params
from trainyard.lora.adapter_config import AdapterError
from trainyard.lora.low_rank import Layer
from trainyard.lora.merge import merge_adapters
from trainyard.lora.recipe import ON_VALUES
from trainyard.lora.row_blocks import approximate
from trainyard.lora.strategies import NAMES, strategy

HOME = Path(__file__).parents[2]
WEIGHTS = np.array([0.5, 0.3, 0.2])
FULL = 24  # the smaller side of every layer of the test adapters: a result of this rank is the strategy's own


def trimmed(update, density):
    """Keep the `density` largest values, as the papers do."""
    size = np.sort(np.abs(update).ravel())[update.size - round(density * update.size)]
    return np.where(np.abs(update) >= size, update, 0)


def dense_ties(updates, weights, density):
    kept = np.stack([trimmed(u, density) for u in updates])
    sign = np.sign(np.tensordot(weights, kept, 1))
    agree = (np.sign(kept) == sign) & (kept != 0)
    total, count = np.tensordot(weights, kept * agree, 1), np.tensordot(weights, agree.astype(float), 1)
    return np.divide(total, count, out=np.zeros_like(total), where=count > 0)


def dense_prune(updates, weights, density):
    return sum(w * trimmed(u, density) for w, u in zip(weights, updates))


@pytest.mark.parametrize("how, dense", [("ties", dense_ties), ("magnitude_prune", dense_prune)])
@pytest.mark.parametrize("density", [0.2, 0.5, 1.0])
def test_it_is_what_the_paper_says_on_dense_updates(tmp_path, how, dense, density):
    folders = [adapter(tmp_path / str(i), i) for i in range(3)]
    parts = [deltas(f) for f in folders]
    wanted = {m: dense([p[m] for p in parts], WEIGHTS, density) for m in SHAPES}
    options = {"weights": list(WEIGHTS), "density": density}
    certificate = merge_adapters(folders, tmp_path / "full", how, rank=FULL, **options)
    assert error(deltas(tmp_path / "full"), wanted) < 1e-5 and certificate["approximation_error"] < 1e-5
    certificate = merge_adapters(folders, tmp_path / "cut", how, rank=5, **options)
    singular = [np.linalg.svd(w, compute_uv=False) for w in wanted.values()]
    best = (sum(np.sum(s[5:] ** 2) for s in singular) / sum(np.sum(s**2) for s in singular)) ** 0.5
    assert certificate["approximation_error"] == pytest.approx(error(deltas(tmp_path / "cut"), wanted), rel=1e-4)
    assert best <= certificate["approximation_error"] * (1 + 1e-6) < best * 1.02
    mean = weighted_sum(folders, WEIGHTS)
    assert certificate["relative_error"] == pytest.approx(error(deltas(tmp_path / "cut"), mean), rel=1e-4)


def test_dare_drops_as_often_as_asked_and_is_right_on_average(tmp_path):
    folders = [adapter(tmp_path / str(i), i) for i in range(2)]
    parts, mean = [deltas(f) for f in folders], weighted_sum(folders, [0.5, 0.5])
    made = []
    for seed in range(40):
        merge_adapters(folders, tmp_path / "out", "dare", rank=FULL, density=0.5, seed=seed)
        made.append(deltas(tmp_path / "out"))
    for module in SHAPES:
        one, two = (p[module] for p in parts)
        # Every entry is 0, one of the two rescaled, or both: half of a value, twice as large.
        outcomes = np.stack([0 * one, one, two, one + two])
        share = [np.isclose(outcomes, m[module], atol=1e-4).any(0).mean() for m in made]
        assert min(share) > 0.999
        dropped = np.mean([np.isclose(m[module], 0, atol=1e-4).mean() for m in made])
        assert dropped == pytest.approx(0.25, abs=0.02)
    average = {m: np.mean([x[m] for x in made], 0) for m in SHAPES}
    assert error(average, mean) < 0.25 < min(error(m, mean) for m in made)
    merge_adapters(folders, tmp_path / "again", "dare", rank=FULL, density=0.5, seed=39)
    assert error(deltas(tmp_path / "again"), made[-1]) == 0


@pytest.mark.parametrize("how", NAMES)
def test_with_all_values_kept_six_equal_adapters_are_that_adapter(tmp_path, how):
    folder = adapter(tmp_path / "a", 1)
    certificate = merge_adapters([folder] * 6, tmp_path / "out", how, density=1, losses=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert error(deltas(tmp_path / "out"), deltas(folder)) < 1e-6 and certificate["relative_error"] < 1e-6
    # Trimming the same values of all of them is trimming one.
    if how in ("ties", "magnitude_prune"):
        merge_adapters([folder] * 6, tmp_path / "six", how, density=0.3, rank=FULL)
        merge_adapters([folder], tmp_path / "one", how, density=0.3, rank=FULL)
        assert error(deltas(tmp_path / "six"), deltas(tmp_path / "one")) < 1e-6


def test_blocks_of_rows_change_nothing(tmp_path, monkeypatch):
    folders = [adapter(tmp_path / str(i), i) for i in range(3)]
    merge_adapters(folders, tmp_path / "whole", "ties", density=0.4, rank=6)
    monkeypatch.setattr("trainyard.lora.merge.BLOCK", 70)
    merge_adapters(folders, tmp_path / "rows", "ties", density=0.4, rank=6)
    assert error(deltas(tmp_path / "rows"), deltas(tmp_path / "whole")) < 1e-5


def test_no_matrix_of_the_layers_size_is_held(tmp_path):
    width, seen = 640, []
    rng = np.random.default_rng(0)
    parts = [(rng.normal(size=(4, width)).astype(np.float32), rng.normal(size=(width, 4)).astype(np.float32)) for _ in range(3)]
    layer = Layer("x", parts, np.ones(3), np.full(3, 1 / 3))
    merge = strategy("ties").merger(layer, 0.5, 0)

    def blocks():
        for first in range(0, width, 32):
            seen.append(block := merge(layer.rows(slice(first, first + 32)), first))
            yield slice(first, first + 32), block

    import tracemalloc

    tracemalloc.start()
    approximate(blocks, width, layer.a, 4)
    seen.clear()
    tracemalloc.reset_peak()
    for _ in blocks():
        seen.clear()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < width * width * 4 / 2


def test_names_in_the_config_are_the_files_there_are():
    assert get_args(MergeStrategy) == NAMES
    assert MergeConfig(strategies=NAMES).strategies == NAMES
    assert all(hasattr(strategy(n), "merger") == (n in ON_VALUES) for n in NAMES)


def test_a_rule_tells_a_strategy_only_what_it_uses():
    merge = {"strategies": list(NAMES), "rank": 16, "density": 0.4, "seed": 3, "weights": "samples", "dtype": "bfloat16"}
    config = {"suites": ["housebrain"], "housebrain": {"models": {"housebrain": {"merge": merge}}}}
    jobs = Jobs(config, HOME)
    params = Params(jobs, Files(jobs))
    told = {n: params.merge_flags(SimpleNamespace(suite="housebrain", merge="housebrain", strategy=n)) for n in NAMES}
    assert told == {
        "average": "--rank 16 --dtype bfloat16",
        "weighted": "--rank 16 --weights samples --dtype bfloat16",
        "best": "",
        "ties": "--rank 16 --density 0.4 --dtype bfloat16",
        "dare": "--rank 16 --density 0.4 --seed 3 --dtype bfloat16",
        "magnitude_prune": "--rank 16 --density 0.4 --dtype bfloat16",
    }
    config["housebrain"]["models"]["housebrain"]["merge"] = {"weights": [1, 2, 0, 0.5, 1, 1]}
    jobs = Jobs(config, HOME)
    flags = Params(jobs, Files(jobs)).merge_flags
    assert flags(SimpleNamespace(suite="housebrain", merge="housebrain", strategy="weighted")) == "--weights 1 2 0 0.5 1 1"
    assert flags(SimpleNamespace(suite="housebrain", merge="housebrain", strategy="average")) == ""
    config["housebrain"]["models"]["housebrain"]["merge"] = {"weights": [1, 2]}
    with pytest.raises(ConfigError, match="housebrain.models.housebrain.merge.weights: 2 for 6 shards; give one for each"):
        Jobs(config, HOME)


def test_the_fallback_chain_ends_with_best_and_senseless_settings_are_refused():
    assert MergeConfig(strategies=["ties", "average"]).strategies == ("ties", "average", "best")
    assert MergeConfig(strategies=["best", "average"]).strategies == ("best", "average")
    for settings, words in (
        ({"rank": 4, "tolerance": 0.1}, "rank and tolerance exclude each other"),
        ({"strategies": ["average", "average"]}, "named twice"),
        ({"weights": [0, 0]}, "sum above 0, not 0, 0"),
        ({"weights": [2, -1]}, "weights must be 0 or more"),
        ({"weights": [float("inf"), 1]}, "weights must be"),
    ):
        with pytest.raises(ValueError, match=words):
            MergeConfig(**settings)


@pytest.mark.parametrize("how", ["average", "ties", "dare"])
def test_threads_change_nothing(tmp_path, how):
    folders = [adapter(tmp_path / str(i), i) for i in range(3)]
    for threads in (1, 3):
        merge_adapters(folders, tmp_path / f"out{threads}", how, rank=5, threads=threads)
    one, three = ((tmp_path / f"out{n}" / "adapter_model.safetensors").read_bytes() for n in (1, 3))
    assert one == three


@pytest.mark.parametrize(
    "how, options, words",
    [
        ("tie", {}, "strategy must be one of"),
        ("ties", {"density": 0}, "density must be above 0"),
        ("ties", {"density": 1.5}, "at most 1"),
        ("dare", {"tolerance": 0.1}, "not of low rank"),
        ("average", {"rank": 4, "tolerance": 0.1}, "exclude each other"),
        ("average", {"rank": 0}, "rank must be 1 or more"),
        ("average", {"tolerance": 1.0}, "tolerance must be above 0 and below 1"),
        ("average", {"dtype": "int8"}, "dtype must be one of"),
        ("average", {"weights": [1, 2]}, "use --strategy weighted"),
        ("best", {"rank": 3, "losses": [1, 2]}, "takes one adapter as it is"),
        ("best", {}, "validation loss"),
        ("weighted", {"weights": "samples"}, "training samples"),
        ("weighted", {"weights": "size"}, "'loss' or 'samples'"),
        ("weighted", {"losses": [0.1, float("nan")]}, "losses must be finite"),
        ("average", {"dtype": "float16", "tolerance": 1e-5}, "cannot be met in float16"),
    ],
)
def test_options_that_make_no_sense_are_refused_and_nothing_is_written(tmp_path, how, options, words):
    folders = [adapter(tmp_path / str(i), i) for i in range(2)]
    with pytest.raises(AdapterError, match=words):
        merge_adapters(folders, tmp_path / "out", how, **options)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0", "1"]


def test_a_strategy_on_values_refuses_weights_trained_whole(tmp_path):
    key = "base_model.model.lm_head.weight"
    config = {"modules_to_save": ["lm_head"]}
    folders = [adapter(tmp_path / str(i), i, config, lambda t: t.update({key: np.ones((3, 3), np.float32)})) for i in range(2)]
    with pytest.raises(AdapterError, match="adapter_config.json: modules_to_save: 'ties'"):
        merge_adapters(folders, tmp_path / "out", "ties")
    assert json.loads((folders[0] / "adapter_config.json").read_text())["modules_to_save"] and not (tmp_path / "out").exists()
