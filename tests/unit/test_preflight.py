"""Preflight: sound data pass, and each kind of trouble is named with what to do."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from trainyard.config.architectures import ARCHITECTURES
from trainyard.config.features import TabularFeatures
from trainyard.config.jobs import ELSEWHERE, MACHINE
from trainyard.config.schema import Model
from trainyard.data.mounts import classify
from trainyard.data.pack import PackWriter
from trainyard.host.gpus import Gpu
from trainyard.host.resources import Memory
from trainyard.train import data_checks, machine, storage_checks
from trainyard.train import preflight as preflight_module
from trainyard.train.memory import OutOfMemory
from trainyard.train.preflight import Preflight
from trainyard.train.preflight_table import overview, table
from trainyard.train.trial import Trial

SCRIPT = Path(__file__).parents[2] / "workflow" / "scripts" / "preflight_check.py"


def job(**keys) -> dict:
    model = Model(architecture="tabular_mlp", dataset="d", epochs=3, batch_size=8).model_dump(mode="json", exclude=MACHINE | ELSEWHERE)
    options = ARCHITECTURES["tabular_mlp"].options().model_dump(mode="json")
    features = TabularFeatures().model_dump(mode="json")
    where = {"suite": "s", "run": "m", "model": "m", "format": "tabular", "fold": 0, "shard": 0, "seed": 0}
    return {**model, **where, "options": options, "features": features, **keys}


def write(path: Path, ids, groups, labels, values=None, classes=("no", "yes"), meta=None, **more) -> str:
    rng = np.random.default_rng(len(ids))
    meta = {"format": "tabular", "classes": list(classes), "numeric": ["a", "b"], "categorical": {}, **(meta or {})}
    with PackWriter(path, meta) as writer:
        for i, (id, group, label) in enumerate(zip(ids, groups, labels)):
            numeric = values[i] if values is not None else rng.normal(size=2)
            fixed = {"numeric": np.asarray(numeric, np.float32), "category": np.zeros(0, np.int16), "label": np.int64(label)}
            writer.add(fixed | {k: v[i] for k, v in more.items()}, {"id": id, "group": group})
    return str(path)


def packs(folder: Path, **changed) -> dict[str, str]:
    out = {}
    for split, n in (("train", 40), ("validation", 10), ("test", 10)):
        ids = [f"{split}{i}" for i in range(n)]
        keys = {"ids": ids, "groups": [f"g-{x}" for x in ids], "labels": [i % 2 for i in range(n)], **changed.get(split, {})}
        out[split] = write(folder / f"{split}.safetensors", **keys)
    return out


def check(report: dict, name: str) -> dict:
    found = [c for c in report["checks"] if c["check"] == name]
    assert found, f"no check {name} among {[c['check'] for c in report['checks']]}"
    return max(found, key=lambda c: ("ok", "warn", "fail").index(c["verdict"]))


def examine(files: dict[str, str], folder: Path, more: dict | None = None, **keys) -> dict:
    report = Preflight(job(**keys), files, checkpoints=str(folder / "checkpoints"), device="cpu", **(more or {})).run()
    json.dumps(report, allow_nan=False)
    for found in report["checks"]:
        assert found["verdict"] == "ok" or found["advice"], found
    return report


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


@pytest.mark.parametrize(
    ("labels", "verdict", "words"),
    [
        ([0] * 40, "fail", "every training sample is 'no'"),
        ([-1] * 40, "fail", "no training sample has a label"),
        ([0] * 38 + [1, 1], "warn", "2 to 38"),
        ([2, 0] * 20, "fail", "beyond the 2 classes"),
    ],
)
def test_labels(tmp_path: Path, labels: list[int], verdict: str, words: str) -> None:
    found = check(examine(packs(tmp_path, train={"labels": labels}), tmp_path), "labels")
    assert found["verdict"] == verdict and words in found["value"]


@pytest.mark.parametrize(
    ("classes", "labels", "verdict", "words"),
    [
        ([f"{i}.5" for i in range(30)], [i % 30 for i in range(40)], "fail", "30 classes among 40 training samples"),
        ([f"{i}" for i in range(21)], [i % 21 for i in range(60)], "warn", "21 different numbers"),
        (["no", "No ", "1", "1.0"], [i % 4 for i in range(40)], "warn", "no, No , 1, 1.0 differ in spelling only"),
    ],
)
def test_labels_that_are_amounts_or_spelled_in_two_ways(
    tmp_path: Path, classes: list[str], labels: list[int], verdict: str, words: str
) -> None:
    train = {"ids": [f"t{i}" for i in range(len(labels))], "groups": [f"g{i}" for i in range(len(labels))], "labels": labels}
    held = {"classes": classes}
    found = examine(packs(tmp_path, train={**train, **held}, validation=held, test=held), tmp_path)["checks"]
    assert any(words in c["value"] and c["verdict"] == verdict for c in found), found


def test_what_is_odd_about_columns_is_said(tmp_path: Path) -> None:
    meta = {"ignored": {"id": "counts the rows"}, "odd": {"a": "always '1'"}}
    found = examine(packs(tmp_path, train={"meta": meta}), tmp_path)["checks"]
    first, second = (c for c in found if c["check"] == "columns")
    assert first["verdict"] == "ok" and first["value"] == "2 of numbers, 0 of categories; not used: id (counts the rows)"
    assert second["verdict"] == "warn" and second["value"] == "a: always '1'"


def test_samples_without_a_label_are_counted(tmp_path: Path) -> None:
    found = check(examine(packs(tmp_path, train={"labels": [-1, 0, 1, 0] * 10}), tmp_path), "unlabelled")
    assert found["verdict"] == "warn" and "10 of 40 train samples" in found["value"]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_split_without_labels_fails_and_one_without_a_class_warns(tmp_path: Path, split: str) -> None:
    report = examine(packs(tmp_path, **{split: {"labels": [-1] * 10}}), tmp_path)
    assert report["verdict"] == "fail" and f"no {split} sample has a label" in check(report, "labels")["value"]
    report = examine(packs(tmp_path, **{split: {"labels": [0] * 10}}), tmp_path)
    assert report["verdict"] == "warn" and f"no {split} sample of yes" in check(report, "classes")["value"]


def test_a_class_that_training_lacks_is_named(tmp_path: Path) -> None:
    three = {"classes": ("no", "yes", "rare")}
    files = packs(tmp_path, train=three, validation=three, test={**three, "labels": [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]})
    found = check(examine(files, tmp_path), "classes")
    assert found["verdict"] == "warn" and "no training sample of rare" in found["value"]


def test_leaked_groups_and_samples_fail_and_unknown_groups_warn(tmp_path: Path) -> None:
    shared = [f"g-train{i}" for i in range(10)]
    report = examine(packs(tmp_path, test={"groups": shared}), tmp_path)
    assert report["verdict"] == "fail" and "10 groups lie in train and test, such as 'g-train0'" in check(report, "leaks")["value"]
    ids = {s: [f"{s}{i}" for i in range(n)] for s, n in (("train", 40), ("validation", 10), ("test", 10))}
    report = examine(packs(tmp_path, **{s: {"groups": names} for s, names in ids.items()}), tmp_path)
    assert report["verdict"] == "warn" and check(report, "groups")["value"] == "unknown"


def test_values_that_are_no_numbers_fail(tmp_path: Path) -> None:
    scores = np.ones((40, 2), np.float32)
    held = {"scores": np.ones((10, 2), np.float32)}
    files = packs(tmp_path, train={"scores": scores}, validation=held, test=held)
    assert "never change" in check(examine(files, tmp_path), "targets")["value"]
    scores[3, 1] = np.nan
    files = packs(tmp_path, train={"scores": scores}, validation=held, test=held)
    found = check(examine(files, tmp_path), "values")
    assert found["verdict"] == "fail" and "scores of train" in found["value"]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_one_value_that_is_no_number_is_found_wherever_it_is(tmp_path: Path, split: str, monkeypatch) -> None:
    sizes = {"train": 5000, "validation": 10, "test": 10}
    keys = {s: {"ids": [f"{s}{i}" for i in range(n)], "groups": [f"{s}{i}g" for i in range(n)]} for s, n in sizes.items()}
    for s, n in sizes.items():
        keys[s] |= {"labels": [i % 2 for i in range(n)], "scores": np.random.default_rng(n).normal(size=(n, 2)).astype(np.float32)}
    keys[split]["scores"][sizes[split] // 3, 1] = np.nan
    found = check(examine(packs(tmp_path, **keys), tmp_path), "values")
    assert found["verdict"] == "fail" and found["value"] == f"NaN or infinity in scores of {split}"
    keys[split]["scores"][sizes[split] // 3, 1] = 0
    assert check(examine(packs(tmp_path, **keys), tmp_path), "values")["value"] == "all 5,020 samples hold finite numbers"
    monkeypatch.setattr(data_checks, "BLOCK", 1000)
    monkeypatch.setattr(data_checks, "LOOKED_AT", 20_000)
    assert check(examine(packs(tmp_path, **keys), tmp_path), "values")["value"] == "25% of the 5,020 samples hold finite numbers"


def test_infinity_is_no_missing_value(tmp_path: Path) -> None:
    values = np.ones((10, 2))
    values[3, 1] = np.nan
    assert check(examine(packs(tmp_path, test={"values": values}), tmp_path), "values")["verdict"] == "ok"
    values[3, 1] = np.inf
    found = check(examine(packs(tmp_path, test={"values": values}), tmp_path), "values")
    assert found["verdict"] == "fail" and found["value"] == "NaN or infinity in numeric of test"


def test_folds_are_checked_in_their_one_pack(tmp_path: Path) -> None:
    ids = [f"s{i}" for i in range(60)]
    groups = [f"g{i // 2}" for i in range(60)]
    fold = [np.int16(1 + i // 2 % 3) for i in range(60)]
    inner = [np.uint8(i // 2 % 4 == 0) for i in range(60)]
    path = write(tmp_path / "all.safetensors", ids, groups, [i % 2 for i in range(60)], fold=fold, inner=inner)
    files = dict.fromkeys(("train", "validation", "test"), path)
    assert examine(files, tmp_path, fold=2)["verdict"] == "ok"
    assert examine(files, tmp_path, fold=0)["verdict"] == "ok"
    fold[7] = np.int16(1 + fold[7] % 3)
    files = dict.fromkeys(files, write(tmp_path / "all.safetensors", ids, groups, [i % 2 for i in range(60)], fold=fold, inner=inner))
    assert any("another fold" in c["value"] for c in examine(files, tmp_path, fold=1)["checks"])


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
