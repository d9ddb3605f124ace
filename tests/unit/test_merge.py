"""Merging LoRA adapters: exact against dense matrices, refused by file and field, without torch."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from trainyard.config.schema import Acceptance
from trainyard.lora.adapter import Adapter, AdapterError, pattern_value
from trainyard.lora.gate import gates_of, why_refused
from trainyard.lora.losses import validation_losses
from trainyard.lora.merge import best_rank, merge_adapters, merge_weights

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
SHAPES = {"layers.0.self_attn.q_proj": (24, 32), "layers.0.mlp.up_proj": (40, 24)}
CONFIG = {
    "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "base", "r": 4, "lora_alpha": 8, "bias": "none",
    "target_modules": ["q_proj", "up_proj"], "lora_dropout": 0.0, "use_rslora": False, "use_dora": False, "qalora_group_size": 16,
    "megatron_core": "megatron.core", "rank_pattern": {}, "alpha_pattern": {}, "init_lora_weights": True, "inference_mode": True,
}  # fmt: skip


def name(module, factor):
    return f"base_model.model.model.{module}.lora_{factor}.weight"


def adapter(folder, seed, config=None, change=None, metadata=None, dtype=np.float32):
    """An adapter on disk with random factors; `change` may alter its tensors."""
    config = {**CONFIG, **(config or {})}
    rng, tensors = np.random.default_rng(seed), {}
    for module, (out, inside) in SHAPES.items():
        rank = int(pattern_value(config["rank_pattern"], f"base_model.model.model.{module}", config["r"]))
        tensors[name(module, "A")] = rng.normal(size=(rank, inside)).astype(dtype)
        tensors[name(module, "B")] = rng.normal(size=(out, rank)).astype(dtype)
    if change:
        change(tensors)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata=metadata)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def deltas(folder):
    """scale · B·A of every module, float64, as any LoRA runtime computes it."""
    config, tensors = json.loads((folder / "adapter_config.json").read_text()), load_file(folder / "adapter_model.safetensors")
    found = {}
    for module in SHAPES:
        full = f"base_model.model.model.{module}"
        rank = pattern_value(config.get("rank_pattern"), full, config["r"])
        alpha = pattern_value(config.get("alpha_pattern"), full, config["lora_alpha"])
        scale = alpha / rank**0.5 if config.get("use_rslora") else alpha / rank
        a, b = (tensors[name(module, f)].astype(np.float64) for f in "AB")
        assert a.shape[0] == rank
        found[module] = scale * b @ a
    return found


def error(got, wanted):
    size = sum(np.sum(w**2) for w in wanted.values()) ** 0.5
    return sum(np.sum((got[m] - wanted[m]) ** 2) for m in wanted) ** 0.5 / size


def weighted_sum(folders, weights):
    parts = [deltas(f) for f in folders]
    return {m: sum(w * p[m] for w, p in zip(weights, parts)) for m in SHAPES}


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 5),
    rslora=st.booleans(),
    pattern=st.sampled_from([{}, {"q_proj": 2}, {"layers.0.mlp.up_proj": 6}]),
    alphas=st.sampled_from([{}, {"up_proj": 3}]),
    raw=st.lists(st.floats(0.01, 10), min_size=5, max_size=5),
)
def test_the_merge_is_the_weighted_mean_of_the_deltas(tmp_path_factory, count, rslora, pattern, alphas, raw):
    tmp = tmp_path_factory.mktemp("merge")
    config = {"use_rslora": rslora, "rank_pattern": pattern, "alpha_pattern": alphas}
    folders = [adapter(tmp / str(i), i, config) for i in range(count)]
    weights = np.array(raw[:count]) / sum(raw[:count])
    certificate = merge_adapters(folders, tmp / "out", "weighted", weights=raw[:count])
    assert error(deltas(tmp / "out"), weighted_sum(folders, weights)) < 1e-6
    assert certificate["relative_error"] < 1e-6 and certificate["weights"] == pytest.approx(weights)


def test_average_is_not_the_mean_of_the_factors(tmp_path):
    folders = [adapter(tmp_path / str(i), i) for i in range(6)]
    merge_adapters(folders, tmp_path / "out")
    wanted = weighted_sum(folders, [1 / 6] * 6)
    assert error(deltas(tmp_path / "out"), wanted) < 1e-6
    factors = [load_file(f / "adapter_model.safetensors") for f in folders]
    mean = {m: 2 * np.mean([f[name(m, "B")] for f in factors], 0) @ np.mean([f[name(m, "A")] for f in factors], 0) for m in SHAPES}
    assert error(mean, wanted) > 0.5


@pytest.mark.parametrize("rank", [None, 4, 9, 24, 40])
def test_six_times_the_same_adapter_is_that_adapter(tmp_path, rank):
    folder = adapter(tmp_path / "a", 1)
    certificate = merge_adapters([folder] * 6, tmp_path / "out", rank=rank)
    assert error(deltas(tmp_path / "out"), deltas(folder)) < 1e-6
    assert certificate["same_file"] and np.allclose(certificate["cosine"], 1)


@pytest.mark.parametrize("rank", [1, 3, 8, 12, 30])
def test_a_fixed_rank_is_the_best_there_is_and_the_certificate_says_how_good(tmp_path, rank):
    folders = [adapter(tmp_path / str(i), i) for i in range(3)]
    certificate = merge_adapters(folders, tmp_path / "out", rank=rank)
    wanted = weighted_sum(folders, [1 / 3] * 3)
    singular = {m: np.linalg.svd(w, compute_uv=False) for m, w in wanted.items()}
    best = (sum(np.sum(s[rank:] ** 2) for s in singular.values()) / sum(np.sum(s**2) for s in singular.values())) ** 0.5
    assert error(deltas(tmp_path / "out"), wanted) == pytest.approx(best, rel=1e-5, abs=1e-6)
    assert certificate["relative_error"] == pytest.approx(best, rel=1e-4, abs=1e-6)
    assert certificate["rank"] == rank


def test_best_rank_survives_factors_of_lower_rank():
    a, b = np.zeros((4, 6)), np.ones((5, 4))
    a[0] = 1
    small_a, small_b = best_rank(a, b, 2)
    assert np.allclose(small_b @ small_a, b @ a)
    assert not np.any(best_rank(a * 0, b, 2)[1])


def test_the_certificate_measures_how_much_adapters_agree(tmp_path):
    one = adapter(tmp_path / "1", 1)
    turned = adapter(tmp_path / "2", 1, change=lambda t: [t.update({k: -v}) for k, v in t.items() if "lora_B" in k])
    other = adapter(tmp_path / "3", 3)
    folders = [one, turned, other]
    cosine = np.array(merge_adapters(folders, tmp_path / "out")["cosine"])
    flat = [np.concatenate([d.ravel() for d in deltas(f).values()]) for f in folders]
    wanted = [[x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x in flat] for y in flat]
    assert np.allclose(cosine, wanted, atol=1e-5) and cosine[0, 1] == pytest.approx(-1, abs=1e-5)


def test_best_is_a_copy_of_the_one_with_the_lowest_validation_loss(tmp_path):
    folders = [adapter(tmp_path / str(i), i) for i in range(3)]
    for folder, loss in zip(folders, (0.3, 0.1, 0.2)):
        nll = {"part": "answer", "metric": "nll"}
        metrics = [{**nll, "split": "test", "value": 9}, {**nll, "split": "validation", "value": loss}]
        (folder / "metrics.json").write_text(json.dumps({"metrics": metrics}))
    losses = validation_losses(folders)
    assert losses == [0.3, 0.1, 0.2]
    merge_adapters(folders, tmp_path / "out", "best", losses=losses)
    assert (tmp_path / "out" / "adapter_model.safetensors").read_bytes() == (folders[1] / "adapter_model.safetensors").read_bytes()
    shares, _ = merge_weights("weighted", 3, losses=losses)
    assert shares[1] > shares[2] > shares[0] and shares.sum() == pytest.approx(1)


def test_half_precision_inputs_are_read_and_weighted_exactly(tmp_path):
    folders = [adapter(tmp_path / str(i), i, dtype=np.float16) for i in range(2)]
    merge_adapters(folders, tmp_path / "out")
    assert error(deltas(tmp_path / "out"), weighted_sum(folders, [0.5, 0.5])) < 1e-6
    raw = np.array([1.5, -2.25], np.float32)
    a = {"dtype": "BF16", "shape": [1, 2], "data_offsets": [0, 4]}
    b = {"dtype": "BF16", "shape": [2, 1], "data_offsets": [4, 8]}
    header = json.dumps({"base_model.model.q_proj.lora_A.weight": a, "base_model.model.q_proj.lora_B.weight": b}).encode()
    folder = adapter(tmp_path / "bf", 0, {"r": 1})
    half = (raw.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + half + half)
    assert Adapter(folder).array("base_model.model.q_proj.lora_A.weight").tolist() == [[1.5, -2.25]]


def spoil(key, value):
    return lambda tensors: tensors.update({key: value})


Q_A, Q_B = name("layers.0.self_attn.q_proj", "A"), name("layers.0.self_attn.q_proj", "B")


@pytest.mark.parametrize(
    "config, change, words",
    [
        ({"base_model_name_or_path": "other"}, None, "base_model_name_or_path: other, but .* has base"),
        ({"lora_alpha": 16}, None, "lora_alpha: 16, but .* has 8"),
        ({"r": 8}, None, "r: 8, but .* has 4"),
        ({"use_rslora": True}, None, "use_rslora: True"),
        ({"task_type": "SEQ_CLS"}, None, "task_type: SEQ_CLS"),
        ({"target_modules": ["q_proj"]}, None, "target_modules"),
        ({"rank_pattern": {"q_proj": 2}}, None, "rank_pattern"),
        # What real configurations hold beside plain LoRA.
        ({"peft_type": "ADALORA", "init_r": 12, "target_r": 8}, None, "peft_type: ADALORA"),
        ({"peft_type": "IA3", "feedforward_modules": ["down_proj"]}, None, "peft_type: IA3"),
        ({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 20}, None, "peft_type: PROMPT_TUNING"),
        ({"use_dora": True}, None, "use_dora: DoRA"),
        ({"use_bdlora": {"target_modules_bd_a": ["o_proj"]}}, None, "use_bdlora"),
        ({"kasa_config": {"beta": 0.0001, "gamma": 0.001}}, None, "kasa_config"),
        ({"init_lora_weights": "mica"}, None, "init_lora_weights: 'mica'"),
        ({"init_lora_weights": "pissa"}, None, "init_lora_weights: 'pissa'"),
        ({"modules_to_save": ["lm_head"]}, None, "modules_to_save"),
        ({"bias": "lora_only"}, None, "bias: 'lora_only'"),
        ({"lora_bias": True}, None, "lora_bias"),
        ({"layer_replication": [[0, 4], [2, 5]]}, None, "layer_replication"),
        ({"invented": {"beta": 1}}, None, "invented: this program does not know"),
        ({"r": 0}, None, "r: expected a number above 0"),
        ({"lora_alpha": "8"}, None, "lora_alpha: expected a number"),
        ({}, spoil(Q_A, np.full((4, 32), np.nan, np.float32)), "q_proj.lora_A.weight' holds NaN"),
        ({}, spoil(Q_B, np.full((24, 4), np.inf, np.float32)), "infinity"),
        ({}, lambda t: t.pop(Q_A), "has no lora_A"),
        ({}, lambda t: [t.pop(Q_A), t.pop(Q_B)], "lacks '.*q_proj'"),
        ({}, spoil(Q_A, np.ones((4, 31), np.float32)), r"shape \(4, 31\), in .* \(4, 32\)"),
        ({}, spoil(Q_A, np.ones((3, 32), np.float32)), "do not multiply"),
        ({}, spoil("base_model.model.lm_head.weight", np.ones((2, 2), np.float32)), "neither a lora_A nor a lora_B"),
        ({}, spoil(Q_A.replace("lora_A.weight", "lora_magnitude_vector"), np.ones(3, np.float32)), "magnitude"),
        ({}, spoil(Q_A, np.ones((4, 32), np.int64)), "type I64"),
    ],
)
def test_what_does_not_belong_together_is_refused_by_name_and_nothing_is_written(tmp_path, config, change, words):
    good, bad = adapter(tmp_path / "good", 0), adapter(tmp_path / "bad", 1, config, change)
    with pytest.raises(AdapterError, match=words) as found:
        merge_adapters([good, bad], tmp_path / "out")
    assert str(bad) in str(found.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "data, words",
    [
        (b"", "not a whole safetensors file"),
        (struct.pack("<Q", 1 << 60) + b"{}", f"claims {1 << 60} bytes"),
        (struct.pack("<Q", 4) + b"nope", "not JSON"),
        (struct.pack("<Q", 2) + b"[]", "not a JSON object"),
        (struct.pack("<Q", 2) + b"{}", "holds no tensors"),
        (None, "truncated"),
    ],
)
def test_broken_files_are_refused(tmp_path, data, words):
    folder = adapter(tmp_path / "a", 0)
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-9] if data is None else data)
    with pytest.raises(AdapterError, match=words):
        merge_adapters([folder], tmp_path / "out")
    path.unlink()
    (folder / "adapter_model.bin").write_bytes(b"cos\nsystem\n")
    with pytest.raises(AdapterError, match="pickle"):
        merge_adapters([folder], tmp_path / "out")


@pytest.mark.parametrize("weights", [[0, 0], [1, -1], [float("nan"), 1], [1]])
def test_senseless_weights_are_refused(tmp_path, weights):
    folders = [adapter(tmp_path / str(i), i) for i in range(2)]
    with pytest.raises(AdapterError, match="weights"):
        merge_adapters(folders, tmp_path / "out", "weighted", weights=weights)
    assert not (tmp_path / "out").exists()


def test_bases_are_told_apart_by_their_weights_where_these_are_known(tmp_path):
    metadata = {"format": "pt", "base_identity": "a" * 64}
    here = adapter(tmp_path / "1", 1, {"base_model_name_or_path": "/here/base"}, metadata=metadata)
    there = adapter(tmp_path / "2", 2, {"base_model_name_or_path": "/there/base"}, metadata=metadata)
    merge_adapters([here, there], tmp_path / "out")
    assert Adapter(tmp_path / "out").base_identity == "a" * 64
    other = adapter(tmp_path / "3", 3, {"base_model_name_or_path": "/here/base"}, metadata={"base_identity": "b" * 64})
    with pytest.raises(AdapterError, match="another base"):
        merge_adapters([here, other], tmp_path / "out2")


def test_the_command_works_alone_and_without_torch(tmp_path):
    folders = [str(adapter(tmp_path / str(i), i)) for i in range(2)]
    code = (
        "import runpy, sys, os; sys.argv[0] = 'merge_adapters.py'; os._exit = lambda c: sys.exit(c)\n"
        f"try: runpy.run_path({str(SCRIPTS / 'merge_adapters.py')!r}, run_name='__main__')\n"
        "finally: assert not {'torch', 'transformers', 'peft'} & set(sys.modules), 'torch was imported'"
    )
    run = lambda *flags: subprocess.run([sys.executable, "-c", code, *flags], capture_output=True, text=True)  # noqa: E731
    done = run("--models", *folders, "--output", str(tmp_path / "out"), "--strategy", "weighted", "--weights", "3", "1")
    assert done.returncode == 0, done.stderr
    assert "weights 0.7500, 0.2500" in done.stdout
    done = run("--models", *folders, "--output", str(tmp_path / "best"), "--strategy", "best")
    assert done.returncode == 1 and "validation loss is needed" in done.stderr and "Traceback" not in done.stderr


def test_limits_are_held_one_by_one():
    figures = {"answer_loss": 0.4, "megabytes": 10.0, "valid_json": 0.8, "seconds_an_answer": 1.0, "memory_gb": 1.0}
    gates = gates_of(figures, Acceptance())
    assert [g["name"] for g in gates if not g["passed"]] == ["valid_json"]
    assert why_refused(gates) == "valid json 0.8, but the limit is at least 0.9"
    assert not why_refused(gates_of({**figures, "valid_json": 0.9}, Acceptance()))
    assert not why_refused(gates_of({k: v for k, v in figures.items() if k != "valid_json"}, Acceptance()))
    assert "answer loss" in why_refused(gates_of({"valid_json": 1.0}, Acceptance()))
    assert gates_of(figures, Acceptance(max_loss=None, max_megabytes=None, min_valid_json=None, max_seconds=None, max_memory_gb=None)) == []
