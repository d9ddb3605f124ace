"""The merge command on bad input: one line that names file and field, exit 1, nothing half written; and on odd input that is fine."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from adapters import adapter, deltas, error, name, spoil

SCRIPT = Path(__file__).parents[2] / "workflow" / "scripts" / "merge_adapters.py"
Q_A, Q_B = name("layers.0.self_attn.q_proj", "A"), name("layers.0.self_attn.q_proj", "B")


def merge(folder: Path, *models, flags=()) -> subprocess.CompletedProcess:
    command = [sys.executable, SCRIPT, "--models", *models, "--output", folder / "out", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def weights_of(change):
    """A change of the file itself."""

    def of(folder: Path) -> None:
        path = folder / "adapter_model.safetensors"
        path.write_bytes(change(path.read_bytes()))

    return of


def pickled(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


# What is asked: the other adapter's config, its tensors or its file, flags; the file and field that the line names.
BAD = {
    "another base": ({"base_model_name_or_path": "other"}, None, None, (), "adapter_config.json: base_model_name_or_path: other"),
    "another rank": ({"r": 8}, None, None, (), "adapter_config.json: r: 8"),
    "other targets": ({"target_modules": ["q_proj"]}, None, None, (), "adapter_config.json: target_modules"),
    "another alpha": ({"lora_alpha": 16}, None, None, (), "adapter_config.json: lora_alpha: 16"),
    "another task": ({"task_type": "SEQ_CLS"}, None, None, (), "adapter_config.json: task_type: SEQ_CLS"),
    "rsLoRA beside plain": ({"use_rslora": True}, None, None, (), "adapter_config.json: use_rslora: True"),
    "DoRA": ({"use_dora": True}, None, None, (), "adapter_config.json: use_dora: DoRA"),
    "a tensor less": ({}, lambda t: [t.pop(Q_A), t.pop(Q_B)], None, (), f"adapter_model.safetensors: lacks '{Q_A}'"),
    "a tensor more": ({}, spoil("base_model.model.norm.weight", np.ones(3, np.float32)), None, (), "tensor 'base_model.model.norm.weight'"),
    "another shape": ({}, spoil(Q_A, np.ones((4, 31), np.float32)), None, (), f"tensor '{Q_A}' has shape (4, 31)"),
    "NaN": ({}, spoil(Q_A, np.full((4, 32), np.nan, np.float32)), None, (), f"adapter_model.safetensors: tensor '{Q_A}' holds NaN"),
    "infinity": ({}, spoil(Q_B, np.full((24, 4), -np.inf, np.float32)), None, (), f"tensor '{Q_B}' holds NaN or infinity"),
    "truncated": ({}, None, weights_of(lambda data: data[:-9]), (), "adapter_model.safetensors: tensor"),
    "header of 2^60": ({}, None, weights_of(lambda _: struct.pack("<Q", 1 << 60) + b"{}"), (), f"its header claims {1 << 60} bytes"),
    "a pickle": ({}, None, pickled, (), "adapter_model.safetensors: only a pickle, adapter_model.bin"),
    "weights of sum 0": ({}, None, None, ("--strategy", "weighted", "--weights", "0", "0"), "weights"),
    "a negative weight": ({}, None, None, ("--strategy", "weighted", "--weights", "2", "-1"), "weights"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_it_is_refused_in_one_line_and_leaves_nothing(tmp_path, what):
    config, tensors, file, flags, words = BAD[what]
    good, bad = adapter(tmp_path / "good", 0), adapter(tmp_path / "bad", 1, config, tensors)
    if file:
        file(bad)
    done = merge(tmp_path, good, bad, flags=flags)
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.count("\n") == 1 and words in done.stderr, done.stderr
    assert flags or str(bad) in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad", "good"]


def test_one_adapter_is_itself_and_six_times_the_same_is_that_one(tmp_path):
    only = adapter(tmp_path / "only", 0)
    for models, note in (((only,), False), ((only,) * 6, True)):
        done = merge(tmp_path, *models)
        assert done.returncode == 0, done.stderr
        assert ("some of the adapters are the same file" in done.stdout) == note
        assert error(deltas(tmp_path / "out"), deltas(only)) < 2e-7
        certificate = json.loads((tmp_path / "out" / "certificate.json").read_text())
        assert certificate["same_file"] == note and certificate["relative_error"] < 2e-7


def test_the_certificate_says_all_that_it_is_asked_for(tmp_path):
    """Inputs' hashes, configs field by field, the base, strategy, weights, errors, ranks, agreement and size."""
    import hashlib

    folders = [adapter(tmp_path / str(i), i, {"lora_dropout": 0.1 * i}, metadata={"base_identity": "f" * 64}) for i in range(3)]
    done = merge(tmp_path, *folders, flags=("--strategy", "weighted", "--weights", "1", "1", "2", "--rank", "5"))
    assert done.returncode == 0, done.stderr
    c = json.loads((tmp_path / "out" / "certificate.json").read_text())
    data = [(f / "adapter_model.safetensors").read_bytes() for f in folders]
    assert [i["sha256"] for i in c["inputs"]] == [hashlib.sha256(d).hexdigest() for d in data]
    assert [i["bytes"] for i in c["inputs"]] == [len(d) for d in data]
    assert c["configs"]["different"] == {"lora_dropout": [0.0, 0.1, 0.2]} and c["configs"]["same"]["r"] == 4
    assert (c["base_model"], c["base_identity"], c["strategy"], c["weights"]) == ("base", "f" * 64, "weighted", [0.25, 0.25, 0.5])
    assert 0 < c["relative_error"] < 1 and set(c["rank_for"]) == {"1%", "0.1%"} and c["rank"] == 5
    assert {len(row) for key in ("cosine", "sign_agreement") for row in c[key]} == {3}
    for layer in c["layers"].values():
        assert {"rank", "norm", "relative_error", "rounding_error", "rank_for"} <= set(layer)
    assert len(c["layers"]) == 2
    assert c["bytes"] == (tmp_path / "out" / "adapter_model.safetensors").stat().st_size
    # And for people.
    page = (tmp_path / "out" / "certificate.html").read_text()
    assert c["inputs"][0]["sha256"][:12] in page and "lora_dropout" in page


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--density", "0.3"), "--density: ties, dare, magnitude_prune alone cut values, and the strategy is average"),
        (("--strategy", "ties", "--seed", "3"), "--seed: dare alone draws at random, and the strategy is ties"),
        (("--rows", "rows.jsonl"), "--rows: is for --validate"),
    ],
)
def test_flags_that_would_change_nothing_are_refused(tmp_path, flags, words):
    done = merge(tmp_path, *(adapter(tmp_path / str(i), i) for i in range(2)), flags=flags)
    assert done.returncode == 2 and words in done.stderr and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content", ["half of", "[]", '{"metrics": 5}', '{"metrics": [3]}', '{"train_info": {"best_validation_loss": "low"}}']
)
def test_figures_that_are_none_are_named_once(tmp_path, content):
    (tmp_path / "m.json").write_text(content)
    models = [adapter(tmp_path / str(i), i) for i in range(2)]
    done = merge(tmp_path, *models, flags=("--strategy", "best", "--metrics", tmp_path / "m.json", tmp_path / "m.json"))
    assert done.returncode == 1 and done.stderr.count(str(tmp_path / "m.json")) == 1 and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_loss_is_of_the_weights_that_were_kept(tmp_path):
    """Not of the best epoch, where the last one's were asked for."""
    from trainyard.lora.losses import validation_losses

    (tmp_path / "train.json").write_text('{"train_info": {"best_validation_loss": 0.2, "validation_loss": 0.9}}')
    assert validation_losses([tmp_path]) == [0.9]


def test_an_empty_output_is_not_the_folder_one_is_in(tmp_path):
    models = [adapter(tmp_path / str(i), i) for i in range(2)]
    done = subprocess.run([sys.executable, SCRIPT, "--models", *models, "--output", ""], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and "argument --output: is empty" in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0", "1"]
