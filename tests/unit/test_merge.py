"""Merging LoRA adapters: exact against dense matrices, the best there is at a rank, honest about its own error."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from adapters import SHAPES, adapter, deltas, error, name, weighted_sum
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from trainyard.config.merging import Acceptance
from trainyard.lora.adapter import Adapter
from trainyard.lora.adapter_config import AdapterError
from trainyard.lora.gate import gates_of, why_refused
from trainyard.lora.losses import validation_losses
from trainyard.lora.low_rank import Layer
from trainyard.lora.merge import merge_adapters
from trainyard.lora.number_types import decode, encode
from trainyard.lora.samples import training_samples
from trainyard.lora.strategies.known import Known

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"


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
    assert certificate["relative_error"] < 1e-6 and certificate["exact"] and certificate["weights"] == pytest.approx(weights)


def test_average_is_not_the_mean_of_the_factors(tmp_path):
    folders = [adapter(tmp_path / str(i), i) for i in range(6)]
    merge_adapters(folders, tmp_path / "out")
    wanted = weighted_sum(folders, [1 / 6] * 6)
    assert error(deltas(tmp_path / "out"), wanted) < 1e-6
    factors = [load_file(f / "adapter_model.safetensors") for f in folders]
    mean = {m: 2 * np.mean([f[name(m, "B")] for f in factors], 0) @ np.mean([f[name(m, "A")] for f in factors], 0) for m in SHAPES}
    assert error(mean, wanted) > 0.5


def test_adapters_of_different_rank_and_scale_are_merged_when_asked(tmp_path):
    kinds = [{}, {"r": 6, "lora_alpha": 3}, {"use_rslora": True}, {"rank_pattern": {"q_proj": 2}}]
    folders = [adapter(tmp_path / str(i), i, kind) for i, kind in enumerate(kinds)]
    with pytest.raises(AdapterError, match="r: 6"):
        merge_adapters(folders, tmp_path / "out")
    certificate = merge_adapters(folders, tmp_path / "out", mixed=True)
    assert error(deltas(tmp_path / "out"), weighted_sum(folders, [0.25] * 4)) < 1e-6
    assert certificate["configs"]["different"]["r"] == [4, 6, 4, 4] and "task_type" in certificate["configs"]["same"]
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert {config["r"], *config["rank_pattern"].values()} == {18, 16} and not config["use_rslora"]


@pytest.mark.parametrize("rank", [1, 3, 8, 12, 30])
def test_a_fixed_rank_is_the_best_there_is_and_the_certificate_says_how_good(tmp_path, rank):
    folders = [adapter(tmp_path / str(i), i) for i in range(3)]
    certificate = merge_adapters(folders, tmp_path / "out", rank=rank)
    wanted = weighted_sum(folders, [1 / 3] * 3)
    best = best_error(wanted, rank)
    assert error(deltas(tmp_path / "out"), wanted) == pytest.approx(best, rel=1e-5, abs=1e-6)
    assert certificate["relative_error"] == pytest.approx(best, rel=1e-4, abs=1e-6)
    assert certificate["rank"] == rank and certificate["exact"] == (rank >= 12)


def best_error(wanted, rank):
    singular = [np.linalg.svd(w, compute_uv=False) for w in wanted.values()]
    return (sum(np.sum(s[rank:] ** 2) for s in singular) / sum(np.sum(s**2) for s in singular)) ** 0.5


@pytest.mark.parametrize("tolerance", [0.9, 0.3, 0.1, 1e-3])
def test_a_tolerance_gives_the_smallest_rank_that_keeps_it(tmp_path, tolerance):
    folders = [adapter(tmp_path / str(i), i) for i in range(3)]
    certificate = merge_adapters(folders, tmp_path / "out", tolerance=tolerance)
    wanted, rank = weighted_sum(folders, [1 / 3] * 3), certificate["rank"]
    assert error(deltas(tmp_path / "out"), wanted) <= tolerance * (1 + 1e-6)
    assert rank == 12 or best_error(wanted, rank) <= tolerance
    assert rank == 1 or best_error(wanted, rank - 1) > tolerance
    assert load_file(tmp_path / "out" / "adapter_model.safetensors")[name("layers.0.self_attn.q_proj", "A")].shape[0] == rank


def test_the_certificate_says_which_rank_would_do(tmp_path):
    # Four adapters of rank 4 that hardly differ: nearly all of the mean is of rank 4.
    folders = [adapter(tmp_path / str(i), 1, change=jitter(i, 1e-3)) for i in range(4)]
    certificate = merge_adapters(folders, tmp_path / "out")
    wanted = weighted_sum(folders, [1 / 4] * 4)
    ranks = {"1%": 0.01, "0.1%": 0.001}
    assert certificate["rank_for"] == {k: next(r for r in range(20) if best_error(wanted, r) <= t) for k, t in ranks.items()}
    assert certificate["rank_for"]["1%"] == 4 < certificate["rank"]


def jitter(seed, size):
    rng = np.random.default_rng(seed)
    return lambda t: [t.update({k: (v + size * rng.normal(size=v.shape)).astype(v.dtype)}) for k, v in t.items()]


@pytest.mark.parametrize("options", [{}, {"rank": 4}, {"rank": 9}, {"rank": 24}, {"rank": 40}, {"tolerance": 0.01}])
def test_six_times_the_same_adapter_is_that_adapter(tmp_path, options):
    folder = adapter(tmp_path / "a", 1)
    certificate = merge_adapters([folder] * 6, tmp_path / "out", **options)
    assert error(deltas(tmp_path / "out"), deltas(folder)) < 2e-7
    assert certificate["relative_error"] < 1e-6 and certificate["same_file"]
    assert np.allclose(certificate["cosine"], 1) and np.allclose(certificate["sign_agreement"], 1)


def test_one_adapter_is_copied_byte_by_byte(tmp_path):
    folder = adapter(tmp_path / "a", 1, {"use_rslora": True, "r": 3, "rank_pattern": {"q_proj": 2}})
    certificate = merge_adapters([folder], tmp_path / "out")
    assert (tmp_path / "out" / "adapter_model.safetensors").read_bytes() == (folder / "adapter_model.safetensors").read_bytes()
    assert error(deltas(tmp_path / "out"), deltas(folder)) == 0 == certificate["relative_error"]
    # So is the only one that counts.
    other = adapter(tmp_path / "b", 2, {"use_rslora": True, "r": 3, "rank_pattern": {"q_proj": 2}})
    merge_adapters([other, folder], tmp_path / "out2", "weighted", weights=[0, 2])
    assert (tmp_path / "out2" / "adapter_model.safetensors").read_bytes() == (folder / "adapter_model.safetensors").read_bytes()


def test_factors_of_lower_rank_than_they_have_are_survived(tmp_path):
    a, b = np.zeros((4, 6), np.float32), np.ones((5, 4), np.float32)
    a[0] = 1
    layer = Layer("x", [(a, b)], np.ones(1), np.ones(1))
    small_a, small_b = layer.best(2)
    assert np.allclose(small_b @ small_a, b @ a) and layer.spectrum[0] == pytest.approx(30) and np.allclose(layer.spectrum[1:], 0)
    # An adapter that was never trained adds nothing, and is merged.
    zero = adapter(tmp_path / "0", 0, change=lambda t: [t.update({k: v * 0}) for k, v in t.items() if "lora_B" in k])
    certificate = merge_adapters([zero, zero], tmp_path / "out", rank=2)
    assert not any(d.any() for d in deltas(tmp_path / "out").values()) and certificate["relative_error"] == 0


def test_the_certificate_measures_how_much_adapters_agree(tmp_path):
    one = adapter(tmp_path / "1", 1)
    turned = adapter(tmp_path / "2", 1, change=lambda t: [t.update({k: -v}) for k, v in t.items() if "lora_B" in k])
    folders = [one, turned, adapter(tmp_path / "3", 3)]
    certificate = merge_adapters(folders, tmp_path / "out")
    flat = [np.concatenate([d.ravel() for d in deltas(f).values()]) for f in folders]
    wanted = [[x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x in flat] for y in flat]
    assert np.allclose(certificate["cosine"], wanted, atol=1e-5) and certificate["cosine"][0][1] == pytest.approx(-1, abs=1e-5)
    # These layers are so small that all of their rows are looked at.
    assert np.allclose(certificate["sign_agreement"], [[np.mean(np.sign(x) == np.sign(y)) for x in flat] for y in flat], atol=1e-6)


def test_best_is_a_copy_of_the_one_with_the_lowest_validation_loss(tmp_path):
    folders = [adapter(tmp_path / str(i), i) for i in range(3)]
    for folder, loss, samples in zip(folders, (0.3, 0.1, 0.2), (100, 300, 200)):
        nll = {"part": "answer", "metric": "nll"}
        metrics = [{**nll, "split": "test", "value": 9}, {**nll, "split": "validation", "value": loss}]
        (folder / "metrics.json").write_text(json.dumps({"metrics": metrics, "train_info": {"samples": samples}}))
    losses, samples = validation_losses(folders), training_samples(folders)
    assert losses == [0.3, 0.1, 0.2] and samples == [100, 300, 200]
    merge_adapters(folders, tmp_path / "out", "best", losses=losses)
    assert (tmp_path / "out" / "adapter_model.safetensors").read_bytes() == (folders[1] / "adapter_model.safetensors").read_bytes()
    by_loss = Known(3, losses=losses).weighed("loss")
    assert by_loss[1] > by_loss[2] > by_loss[0] and by_loss.sum() == pytest.approx(1)
    certificate = merge_adapters(folders, tmp_path / "out", "weighted", weights="samples", samples=samples)
    assert certificate["weights"] == pytest.approx([1 / 6, 1 / 2, 1 / 3]) and certificate["weighted_by"] == "samples"


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


@pytest.mark.parametrize("dtype, stored, unit", [("float32", "F32", 2**-24), ("float16", "F16", 2**-11), ("bfloat16", "BF16", 2**-8)])
def test_the_certificate_states_the_rounding_of_what_is_written(tmp_path, dtype, stored, unit):
    folders = [adapter(tmp_path / str(i), i) for i in range(3)]
    for options in ({}, {"rank": 5}):
        certificate = merge_adapters(folders, tmp_path / "out", dtype=dtype, **options)
        got = Adapter(tmp_path / "out")
        assert {t.dtype for t in got.tensors.values()} == {stored}
        made = {m: got.scale(f"base_model.model.model.{m}") * b.astype(np.float64) @ a for m in SHAPES
                for a, b in [got.factors(f"base_model.model.model.{m}")]}  # fmt: skip
        wanted = weighted_sum(folders, [1 / 3] * 3)
        assert certificate["relative_error"] == pytest.approx(error(made, wanted), rel=1e-3, abs=2e-8)
        assert 0.05 * unit < certificate["rounding_error"] < 2 * unit
        assert options or certificate["rounding_error"] == certificate["relative_error"]


def test_numbers_are_rounded_to_the_nearest_as_torch_does():
    torch = pytest.importorskip("torch")
    values = np.concatenate([np.random.default_rng(0).normal(size=5000), [0.0, -0.0, 1 + 2**-8, 1 + 3 * 2**-8, 1e-40, 3e38]]).astype(
        np.float32
    )
    wanted = torch.from_numpy(values).to(torch.bfloat16)
    assert np.array_equal(decode(encode(values, "BF16"), "BF16"), wanted.float().numpy())
    with pytest.raises(ValueError, match="does not fit in float16"):
        encode(np.array([7e4]), "F16")


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
        "finally: assert not {'torch', 'transformers', 'peft', 'pandas'} & set(sys.modules), 'torch was imported'"
    )
    run = lambda *flags: subprocess.run([sys.executable, "-c", code, *flags], capture_output=True, text=True)  # noqa: E731
    done = run("--models", *folders, "--output", str(tmp_path / "out"), "--strategy", "weighted", "--weights", "3", "1")
    assert done.returncode == 0, done.stderr
    assert "weights 0.7500, 0.2500" in done.stdout and sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "certificate.html", "certificate.json",
    ]  # fmt: skip
    done = run("--models", *folders, "--output", str(tmp_path / "best"), "--strategy", "best")
    assert done.returncode == 1 and "validation loss is needed" in done.stderr and "Traceback" not in done.stderr
    done = run("--models", *folders, "--output", str(tmp_path / "by"), "--strategy", "weighted", "--weights", "size")
    assert done.returncode == 1 and "expected a number for each model" in done.stderr and not (tmp_path / "by").exists()


def test_limits_are_held_one_by_one():
    figures = {"answer_loss": 0.4, "megabytes": 10.0, "valid_json": 0.8, "seconds_an_answer": 1.0, "memory_gb": 1.0}
    gates = gates_of(figures, Acceptance())
    assert [g["name"] for g in gates if not g["passed"]] == ["valid_json"]
    assert why_refused(gates) == "valid json 0.8, but the limit is at least 0.9"
    assert not why_refused(gates_of({**figures, "valid_json": 0.9}, Acceptance()))
    plans = Acceptance(min_valid_json=None, min_schema=0.9, min_geometry=0.8)
    refused = why_refused(gates_of({**figures, "schema": 0.95, "geometry": 0.7}, plans))
    assert refused == "geometry 0.7, but the limit is at least 0.8"
    assert not why_refused(gates_of(figures, plans))  # answers that are no plans have no geometry
    assert not why_refused(gates_of({k: v for k, v in figures.items() if k != "valid_json"}, Acceptance()))
    assert "answer loss" in why_refused(gates_of({"valid_json": 1.0}, Acceptance()))
    assert gates_of(figures, Acceptance(max_loss=None, max_megabytes=None, min_valid_json=None, max_seconds=None, max_memory_gb=None)) == []
