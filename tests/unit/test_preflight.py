"""Preflight: sound data pass, and each kind of trouble is named with what to do."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from preflight_packs import check, examine, job, packs
from trainyard.data.mounts import classify
from trainyard.host.gpus import Gpu
from trainyard.host.resources import Memory
from trainyard.train import machine, storage_checks
from trainyard.train import preflight as preflight_module
from trainyard.train.memory import OutOfMemory
from trainyard.train.preflight_table import overview, table
from trainyard.train.trial import Trial

SCRIPT = Path(__file__).parents[2] / "workflow" / "scripts" / "preflight_check.py"


def test_sound_data_pass_with_a_prediction(tmp_path: Path) -> None:
    report = examine(packs(tmp_path), tmp_path)
    assert report["verdict"] == "ok", [c for c in report["checks"] if c["verdict"] != "ok"]
    assert {c["check"] for c in report["checks"]} == {
        "packs", "storage", "read", "checkpoints", "labels", "columns", "values", "leaks", "model", "step", "predict", "device", "memory",
        "disk", "parallel", "time", "batch",
    }  # fmt: skip
    assert report["checks"][0]["check"] == "packs" and report["checks"][-1]["check"] == "time"
    prediction = report["prediction"]
    assert 0 < prediction["low"] <= prediction["minutes"] <= prediction["high"] and prediction["steps"] == 15
    assert prediction["bound"] in ("compute", "decode", "storage", "saving") and sum(prediction["seconds"].values()) > 0
    for width in (80, 200):
        lines = table(report, width).splitlines()
        assert max(map(len, lines)) <= min(width, 120) and lines[0] == "preflight s/m: ok"
    assert "s/m" in overview([report])


def test_missing_broken_and_empty_packs_fail(tmp_path: Path) -> None:
    files = packs(tmp_path)
    report = examine({**files, "test": str(tmp_path / "gone.safetensors")}, tmp_path)
    assert report["verdict"] == "fail" and "gone.safetensors" in check(report, "packs")["value"]
    Path(files["train"]).write_bytes(b"not a pack at all")
    assert "claims" in check(examine(files, tmp_path), "packs")["value"]
    files = packs(tmp_path, test={"ids": [], "groups": [], "labels": []})
    assert "test is empty" in check(examine(files, tmp_path), "packs")["advice"]


def test_too_little_disk_and_memory_fail(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(machine, "free_bytes", lambda path: 1000)
    monkeypatch.setattr(machine, "memory", lambda: Memory(60.0, 50.0, True))
    report = examine(packs(tmp_path), tmp_path)
    assert check(report, "disk")["verdict"] == "fail" and "missing" in check(report, "disk")["advice"]
    assert check(report, "memory")["verdict"] == "fail" and "control group" in check(report, "memory")["limit"]
    assert check(report, "disk")["machine"] and check(report, "memory")["machine"]


def test_disk_is_for_all_runs_of_the_suite(tmp_path: Path, monkeypatch) -> None:
    files = packs(tmp_path)
    one = examine(files, tmp_path)["needs"]["checkpoint_bytes"]
    monkeypatch.setattr(machine, "free_bytes", lambda path: 4 * one)
    assert check(examine(files, tmp_path), "disk")["verdict"] == "ok"
    assert check(examine(files, tmp_path, {"runs": 3}), "disk")["verdict"] == "warn"
    found = check(examine(files, tmp_path, {"runs": 3, "others": 2 * one}), "disk")
    assert found["verdict"] == "fail" and "3 runs and of the models checked before" in found["value"]


def test_more_memory_than_was_promised_to_the_scheduler_warns(tmp_path: Path) -> None:
    found = check(examine(packs(tmp_path), tmp_path, {"mem_mb": 20}), "memory")
    assert found["verdict"] == "warn" and "set mem_mb" in found["advice"]


def test_more_threads_than_cores_warn(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(preflight_module, "usable_cores", lambda: 0.5)
    assert "set threads: 1" in check(examine(packs(tmp_path), tmp_path), "threads")["advice"]


def test_a_gpu_that_was_asked_for_and_is_not_there_fails(tmp_path: Path) -> None:
    found = check(examine(packs(tmp_path), tmp_path, {"gpus": 1}), "device")
    assert found["verdict"] == "fail" and "gpu: 0" in found["advice"]


def test_a_gpu_that_torch_cannot_use_warns(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(machine.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(machine, "driver_gpus", lambda: [Gpu("GPU-1", "NVIDIA L4", 0)])
    monkeypatch.setattr(machine, "torch_cuda", lambda: None)
    found = check(examine(packs(tmp_path), tmp_path), "device")
    assert found["verdict"] == "warn" and "NVIDIA L4" in found["value"] and "CUDA" in found["advice"]


def test_slow_batches_warn(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(preflight_module, "BATCH_SECONDS", 0.0)
    assert check(examine(packs(tmp_path), tmp_path), "batch")["verdict"] == "warn"


def test_slow_storage_warns(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(storage_checks, "SLOW_OPEN", 0.0)
    assert check(examine(packs(tmp_path), tmp_path), "read")["verdict"] == "warn"


def test_network_storage_warns_and_a_model_that_does_not_build_fails(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(storage_checks, "describe", lambda path: classify("/content/drive", "fuse.drive", "drive"))
    report = examine(packs(tmp_path), tmp_path, options={"width": 2})
    assert check(report, "storage")["verdict"] == "warn" and "Google Drive" in check(report, "storage")["value"]
    assert check(report, "checkpoints")["verdict"] == "warn"
    assert report["verdict"] == "fail" and "width" in check(report, "model")["value"]


def test_a_mount_that_does_not_answer_fails(tmp_path: Path, monkeypatch) -> None:
    gone = classify("/mnt/x", "fuse.sshfs", "mac:/x", "Transport endpoint is not connected")
    monkeypatch.setattr(storage_checks, "describe", lambda path: gone)
    found = check(examine(packs(tmp_path), tmp_path), "storage")
    assert found["verdict"] == "fail" and "mount it again" in found["advice"]


def test_raw_files_are_opened_and_the_reads_of_a_copy_chosen(tmp_path: Path) -> None:
    root = tmp_path / "raw files"
    root.mkdir()
    for i in range(3):
        (root / f"{i}.csv").write_bytes(b"x" * 5000)
    report = examine(packs(tmp_path), tmp_path, {"root": str(root), "sources": [f"{i}.csv" for i in range(3)]})
    assert "8 reads in flight" in check(report, "sources")["value"]
    for path in root.iterdir():
        path.unlink()
    report = examine(packs(tmp_path), tmp_path, {"root": str(root), "sources": ["0.csv"]})
    assert check(report, "sources")["verdict"] == "warn"
    assert check(examine(packs(tmp_path), tmp_path, {"root": str(root)}), "sources")["verdict"] == "ok"
    report = examine(packs(tmp_path), tmp_path, {"root": str(tmp_path / "elsewhere"), "sources": ["0.csv"]})
    assert "not on this machine" in check(report, "sources")["value"] and report["verdict"] == "ok"


def test_out_of_memory_in_the_trial_is_a_matter_of_the_machine(tmp_path: Path, monkeypatch) -> None:
    def too_much(self, *_):
        raise OutOfMemory("out of memory even with one sample at a time")

    monkeypatch.setattr(Trial, "run", too_much)
    found = check(examine(packs(tmp_path), tmp_path), "step")
    assert found["verdict"] == "fail" and found["machine"] and "one sample" in found["value"]


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_step_that_is_not_finite_fails(tmp_path: Path) -> None:
    report = examine(packs(tmp_path, train={"values": np.full((40, 2), np.inf)}), tmp_path)
    assert report["verdict"] == "fail" and "not a number" in check(report, "step")["value"]


def test_command_ends_with_0_whatever_the_verdict(tmp_path: Path) -> None:
    files = packs(tmp_path, train={"labels": [0] * 40})
    command = [sys.executable, SCRIPT, "--settings", json.dumps(job()), "--output", tmp_path / "out.json", "--checkpoints", tmp_path]
    for split, path in files.items():
        command += [f"--{split}", path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "FAIL  labels" in done.stdout and json.loads((tmp_path / "out.json").read_text())["verdict"] == "fail"


def test_the_same_command_again_counts_its_own_checkpoints_once(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, "--settings", json.dumps(job()), "--output", tmp_path / "any.json", "--checkpoints", tmp_path]
    for split, path in packs(tmp_path).items():
        command += [f"--{split}", path]
    for _ in range(2):
        subprocess.run(command, check=True, capture_output=True)
    report = json.loads((tmp_path / "any.json").read_text())
    assert check(report, "disk")["value"].endswith("of 1 run")


def test_an_index_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, "--settings", json.dumps(job()), "--output", tmp_path / "out.json", "--index", tmp_path / "gone"]
    for split, path in packs(tmp_path).items():
        command += [f"--{split}", path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (
        done.returncode == 1
        and done.stderr == f"error: {tmp_path / 'gone'}: not a readable index: No such file or directory; make it with index_dataset.py\n"
    )
