"""Checkpoints in the storage: what lies there is whole, and a run that lost its machine goes on elsewhere to the same bytes."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch
from served import needs_rclone, serve
from trainyard.config.features import TabularFeatures
from trainyard.data.files import read_json
from trainyard.data.generate.patients import generate
from trainyard.data.pack import PackWriter
from trainyard.data.table_file import table_rows
from trainyard.data.tabular import TabularReader, table_context
from trainyard.machines.checkpoints import Mirrored, local_entries
from trainyard.machines.mirror import beside
from trainyard.machines.object_store import BUCKET
from trainyard.machines.s3 import client, listing
from trainyard.train.checkpoint import CheckpointStore, Snapshot

needs_rclone()
STORE = f"s3://{BUCKET}/yard/checkpoints"
SCRIPT = Path(__file__).parents[2] / "workflow" / "scripts" / "train_model.py"


@pytest.fixture
def s3(tmp_path, monkeypatch):
    store = serve(tmp_path / "yard", monkeypatch)
    yield client(retries=8)
    store.close()


def saved(folder: Path, *steps: int, value: float = 0.0) -> CheckpointStore:
    """Checkpoints of these steps; every step is a new best."""
    store = CheckpointStore(folder)
    for step in steps:
        weights = Snapshot({"w": torch.full((5,), step + value)}, {"step": step})
        store.save(step, weights, Snapshot({"w": torch.full((3,), step + value)}, {"epoch": step}))
    return store


def mirrored(s3, folder: Path) -> Mirrored:
    found = Mirrored(s3, STORE, folder)
    for entry in local_entries(folder):
        found.put(entry)
    return found


def keys(s3, prefix: str = "") -> list[str]:
    return sorted(o["Key"].removeprefix("yard/checkpoints/") for o in listing(s3, BUCKET, "yard/checkpoints/" + prefix))


def test_a_checkpoint_goes_there_and_comes_to_another_machine(s3, tmp_path):
    one, two = tmp_path / "one/suite/run/f00d", tmp_path / "two/suite/run/f00d"
    mirrored(s3, saved(one, 3, 6).folder)
    two.mkdir(parents=True)
    said: list[str] = []
    Mirrored(s3, STORE, two).fetch(said.append)
    assert said == ["took the checkpoint of step 6 from the storage"]
    snapshot, best = CheckpointStore(two).latest(said.append)
    assert snapshot.state == {"step": 6} and torch.equal(snapshot.tensors["w"], torch.full((5,), 6.0)) and best.state == {"epoch": 6}
    assert len(said) == 1, "nothing was passed over"


def test_what_is_here_and_newer_or_as_new_stays(s3, tmp_path):
    one, two = tmp_path / "one/suite/run/f00d", tmp_path / "two/suite/run/f00d"
    mirrored(s3, saved(one, 6).folder)
    saved(two, 6, value=0.5)
    Mirrored(s3, STORE, two).fetch(pytest.fail)
    saved(two, 9)
    Mirrored(s3, STORE, two).fetch(pytest.fail)
    assert [e["step"] for e in local_entries(two)] == [6, 9]


def test_an_older_one_here_is_kept_below_the_one_that_is_fetched(s3, tmp_path):
    one, two = tmp_path / "one/suite/run/f00d", tmp_path / "two/suite/run/f00d"
    mirrored(s3, saved(one, 6).folder)
    saved(two, 3)
    Mirrored(s3, STORE, two).fetch(print)
    assert [e["step"] for e in local_entries(two)] == [3, 6]
    assert CheckpointStore(two).latest()[0].state == {"step": 6}


def test_of_another_fingerprint_nothing_is_taken(s3, tmp_path):
    mirrored(s3, saved(tmp_path / "one/suite/run/f00d", 6).folder)
    other = tmp_path / "two/suite/run/beef"
    other.mkdir(parents=True)
    Mirrored(s3, STORE, other).fetch(pytest.fail)
    assert not any(other.iterdir())


def test_bytes_that_differ_are_passed_over_with_a_word(s3, tmp_path):
    one, two = tmp_path / "one/suite/run/f00d", tmp_path / "two/suite/run/f00d"
    mirrored(s3, saved(one, 3, 6).folder)
    newest = local_entries(one)[-1]
    s3.put_object(Bucket=BUCKET, Key=f"yard/checkpoints/suite/run/f00d/{newest['sha256']}.safetensors", Body=b"torn")
    two.mkdir(parents=True)
    said: list[str] = []
    Mirrored(s3, STORE, two).fetch(said.append)
    assert "step 6 is not taken" in said[0] and "differ" in said[0] and "step 3" in said[1]
    assert CheckpointStore(two).latest(pytest.fail)[0].state == {"step": 3}


@pytest.mark.parametrize("text", ["", "[{", '{"a": 1}', '[{"step": 9, "file": "../../x", "sha256": "0"}]', "[3]"])
def test_a_manifest_that_is_none_is_no_reason_to_fail(s3, tmp_path, text):
    one, two = tmp_path / "one/suite/run/f00d", tmp_path / "two/suite/run/f00d"
    mirrored(s3, saved(one, 3).folder)
    s3.put_object(Bucket=BUCKET, Key="yard/checkpoints/suite/run/f00d/manifest-bad.json", Body=text.encode())
    two.mkdir(parents=True)
    Mirrored(s3, STORE, two).fetch(print)
    assert [e["step"] for e in local_entries(two)] == [3]


def test_a_damaged_checkpoint_is_not_sent(s3, tmp_path):
    folder = saved(tmp_path / "one/suite/run/f00d", 3).folder
    entry = local_entries(folder)[-1]
    (folder / entry["file"]).write_bytes(b"torn")
    with pytest.raises(ValueError, match="differ from what the manifest says"):
        Mirrored(s3, STORE, folder).put(entry)
    assert not [k for k in keys(s3) if k.endswith(".json")]


def test_a_bounded_number_is_kept(s3, tmp_path):
    store = saved(tmp_path / "one/suite/run/f00d")
    there = Mirrored(s3, STORE, store.folder)
    for step in range(1, 9):
        saved(store.folder, step)
        there.put(local_entries(store.folder)[-1])
    assert len(keys(s3)) == 1 + 2 * 2, "a manifest, and two checkpoints with their best"
    for name in ("a", "b", "c", "d", "e"):
        mirrored(s3, saved(tmp_path / "one/suite/run" / name, 1).folder)
        time.sleep(1.1)  # S3's times are whole seconds
    there.forget_others()
    assert sorted({k.split("/")[2] for k in keys(s3)}) == ["c", "d", "e", "f00d"]


def test_two_attempts_never_spoil_each_other(s3, tmp_path):
    """The old one was given up for dead and comes back: the same steps, other bytes."""
    old, new = tmp_path / "old/suite/run/f00d", tmp_path / "new/suite/run/f00d"
    first, second = Mirrored(s3, STORE, saved(old, 3).folder), Mirrored(s3, STORE, saved(new, 3, value=0.5).folder)
    second.own = second.own.replace("manifest-", "manifest-other-")
    for step in (4, 5, 6):
        for there, value in ((first, 0.0), (second, 0.5)):
            saved(there.folder, step, value=value)
            there.put(local_entries(there.folder)[-1])
    first.put(local_entries(old)[-1])
    for machine in ("x", "y"):
        folder = tmp_path / machine / "suite/run/f00d"
        folder.mkdir(parents=True)
        Mirrored(s3, STORE, folder).fetch(print)
        assert CheckpointStore(folder).latest(pytest.fail)[0].state == {"step": 6}
    assert len(keys(s3)) <= 2 * 5


def test_uploads_that_never_ended_go_in_time(s3, tmp_path):
    key = f"yard/checkpoints/suite/run/f00d/{'0' * 64}.safetensors"
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"half")
    folder = saved(tmp_path / "one/suite/run/f00d", 3).folder
    mirrored(s3, folder)
    assert f"suite/run/f00d/{'0' * 64}.safetensors" in keys(s3), "perhaps another attempt is just sending it"
    old = (datetime.now(UTC) - timedelta(days=2)).timestamp()
    os.utime(tmp_path / "yard/store" / BUCKET / key, (old, old))
    saved(folder, 6)
    mirrored(s3, folder)
    assert f"suite/run/f00d/{'0' * 64}.safetensors" not in keys(s3)


def test_a_store_out_of_reach_is_a_line_and_no_more(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("SNAKEMAKE_STORAGE_S3_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("SNAKEMAKE_STORAGE_S3_ACCESS_KEY", "nobody")
    monkeypatch.setenv("SNAKEMAKE_STORAGE_S3_SECRET_KEY", "nobody")
    monkeypatch.setenv("TRAINYARD_CHECKPOINT_STORE", STORE)
    monkeypatch.setattr("trainyard.machines.s3.client", lambda retries=1: client(1))
    said: list[str] = []
    with beside(said.append) as elsewhere:
        elsewhere.take_up(saved(tmp_path / "suite/run/f00d", 3).folder)
    assert len(said) == 1 and "going on without" in said[0]
    assert "checkpoints are not mirrored at the moment, the training goes on" in capfd.readouterr().out


def test_where_no_store_is_named_nothing_of_it_is_loaded(tmp_path):
    code = (
        "import sys; from pathlib import Path\nfrom trainyard.machines.mirror import beside\n"
        "with beside() as elsewhere: assert elsewhere is None\nassert not {'boto3', 'botocore', 'subprocess.Popen'} & set(sys.modules)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TRAINYARD_CHECKPOINT_STORE"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


# ---- a training that loses its machine ---------------------------------------------------------------------------
SETTINGS = {
    "suite": "suite", "run": "tiny", "model": "tiny", "architecture": "tabular_mlp", "format": "tabular", "features": {}, "seed": 0,
    "fold": 0, "shard": 0, "epochs": 500, "batch_size": 8, "accumulate": 1, "lr": 3e-3, "weight_decay": 0.05, "warmup": 0.1,
    "schedule": "cosine", "clip": 1.0, "select": "best", "options": {"width": 16, "layers": 2, "dropout": 0.2},
    "checkpoint": {"every_epochs": 5, "every_steps": 0, "every_minutes": 0, "keep": 2},
}  # fmt: skip


@pytest.fixture(scope="module")
def packs(tmp_path_factory) -> list[str]:
    """Flags of three packs of generated patients."""
    folder = tmp_path_factory.mktemp("packs")
    generate(folder, 0, disease="als", patients=60)
    table = folder / "patients.csv"
    context = json.loads(json.dumps(table_context(table, {"label": {"column": "diagnosis"}, "group": {"column": "patient_id"}})))
    reader, rows, flags = TabularReader(TabularFeatures(), folder, context), list(table_rows(table))[:100], []
    classes = sorted({r["diagnosis"] for r in rows})
    for i, split in enumerate(("validation", "test", "train")):
        path = folder / f"{split}.safetensors"
        with PackWriter(path, {"format": "tabular", "classes": classes, **reader.meta()}) as writer:
            for n, row in enumerate(rows):
                if min(n % 5, 2) == i:
                    fixed, ragged = reader.read([], {"extra": row})
                    writer.add({**fixed, "label": classes.index(row["diagnosis"])}, {**ragged, "id": f"p{n}", "group": row["patient_id"]})
        flags += [f"--{split}", str(path)]
    return flags


def command(packs: list[str], machine: Path) -> list[str]:
    paths = ["--checkpoints", str(machine / "checkpoints/suite/tiny"), "--output", str(machine / "out")]
    return [sys.executable, str(SCRIPT), "--settings", json.dumps(SETTINGS), *packs, *paths]


def test_killed_on_one_machine_it_goes_on_on_another_to_the_same_bytes(s3, packs, tmp_path, monkeypatch):
    undisturbed = subprocess.run(command(packs, tmp_path / "zero"), capture_output=True, text=True, timeout=300)
    assert undisturbed.returncode == 0, undisturbed.stderr
    monkeypatch.setenv("TRAINYARD_CHECKPOINT_STORE", STORE)
    monkeypatch.setenv("TRAINYARD_MIRROR_SECONDS", "0.1")
    with open(tmp_path / "one.log", "w") as log:
        first = subprocess.Popen(command(packs, tmp_path / "one"), stdout=log, stderr=log)
        until = time.monotonic() + 120
        while not any(k.endswith(".json") for k in keys(s3)) and time.monotonic() < until and first.poll() is None:
            time.sleep(0.02)
        assert first.poll() is None, (tmp_path / "one.log").read_text()
        first.send_signal(signal.SIGKILL)
        first.wait(20)
    second = subprocess.run(command(packs, tmp_path / "two"), capture_output=True, text=True, timeout=300)
    assert second.returncode == 0, second.stderr
    took = int(second.stdout.partition("took the checkpoint of step ")[2].split()[0])
    assert 0 < took < read_json(tmp_path / "two/out/train.json")["train_info"]["steps"] and f"resuming at step {took} of" in second.stdout
    for name in ("model.safetensors", "history.csv", "predictions.parquet"):
        assert (tmp_path / "two/out" / name).read_bytes() == (tmp_path / "zero/out" / name).read_bytes(), name
    manifest = next(k for k in keys(s3) if k.endswith(".json"))
    last = json.loads(s3.get_object(Bucket=BUCKET, Key="yard/checkpoints/" + manifest)["Body"].read())[-1]["step"]
    assert last == read_json(tmp_path / "two/out/train.json")["train_info"]["steps"], "the last checkpoint was waited for"


def test_asked_to_stop_it_leaves_its_last_checkpoint_there(s3, packs, tmp_path, monkeypatch):
    monkeypatch.setenv("TRAINYARD_CHECKPOINT_STORE", STORE)
    monkeypatch.setenv("TRAINYARD_MIRROR_SECONDS", "3600")  # nothing before the end but the first
    process = subprocess.Popen(command(packs, tmp_path / "one"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in process.stdout:
        if line.startswith("epoch 30/"):
            break
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 75
    saved_at = int(process.stdout.read().partition("saved at step ")[2].split()[0])
    manifest = next(k for k in keys(s3) if k.endswith(".json"))
    assert json.loads(s3.get_object(Bucket=BUCKET, Key="yard/checkpoints/" + manifest)["Body"].read())[-1]["step"] == saved_at
