"""The real workflow with its files in an object store: the results of a local run, nothing to do afterwards, and faults on the way."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from served import keys, needs_rclone
from toy_workflow import SAME, call, command, environment, served
from trainyard.machines.object_store import ObjectStore

needs_rclone()
STORE = ("--default-storage-provider", "s3", "--default-storage-prefix", "s3://trainyard-store", "--storage-s3-retries", "12")
STORE += ("--cores", "2")


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    done = call(folder, "--cores", "2")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert not (folder / ".trainyard").exists() and not (folder / ".snakemake/storage").exists(), "without a storage there is none of it"
    return folder


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("stored")
    done = call(folder, *STORE)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return folder, done.stdout + done.stderr


def test_results_are_those_of_a_local_run_and_come_home(plain, stored):
    folder, _ = stored
    for name in SAME:
        home = folder / "results/aimedres" / name
        assert home.read_bytes() == (plain / "results/aimedres" / name).read_bytes(), name
        assert (folder / ".trainyard/store/trainyard-store/results/aimedres" / name).read_bytes() == home.read_bytes(), name
    assert (folder / "results/report/index.html").exists() and (folder / "results/aimedres/comparison.csv").exists()
    pack = "results/aimedres/packs/als/all.safetensors"
    assert (folder / ".trainyard/store/trainyard-store" / pack).read_bytes() == (plain / pack).read_bytes()
    packs = sorted(p.name for p in (folder / "results/aimedres/packs/als").iterdir())
    assert packs == ["quarantine.csv", "summary.json"], "packs, which are big, stay in the store"
    assert (folder / "logs/train_model/aimedres/als-fold1.log").read_text().count("epoch ") >= 3


def test_raw_data_do_not_travel(stored):
    folder, _ = stored
    assert (folder / "data/demo/aimedres/als/files").is_dir()
    assert not list((folder / ".trainyard/store").rglob("manifest.json")), "the generated files and their manifest stay here"


def test_checkpoints_are_there_too(stored):
    folder, _ = stored
    assert list((folder / ".trainyard/store/trainyard-store/checkpoints/aimedres/als-fold1").glob("*/manifest-*.json"))


def test_a_second_call_has_nothing_to_do(stored):
    folder, _ = stored
    time.sleep(1.1)  # times in a store are whole seconds
    for args in ((), ("-n",)):
        again = call(folder, *STORE, *args)
        assert again.returncode == 0 and "nothing to do" in (again.stdout + again.stderr).lower(), again.stdout + again.stderr


def test_a_change_reruns_what_it_changes_and_no_more(stored):
    folder, _ = stored
    (folder / "lr.yaml").write_text("aimedres: {models: {als: {lr: 0.0005}}}\n")
    planned = call(folder, *STORE, "-n", "--configfile", str(folder / "lr.yaml"))
    assert planned.returncode == 0 and "train_model" in planned.stdout + planned.stderr
    assert not {"copy_to_local", "run_script", "index_dataset"} & set((planned.stdout + planned.stderr).split())


def test_no_key_is_left_or_told(stored):
    folder, said = stored
    assert not (folder / ".trainyard/store.json").exists() and not served(folder), "the store ends with the run"
    secrets = ("SECRET_KEY", "secret_key", "access_key")
    for path in [*folder.rglob("*.log"), *(folder / ".snakemake/metadata").rglob("*"), *(folder / "results").rglob("*.json")]:
        if path.is_file():
            text = path.read_text(errors="replace")
            assert not any(word in text for word in secrets), path
    assert not any(word in said for word in secrets)


def test_rclone_killed_9_again_and_again_the_run_ends_well(plain, tmp_path):
    with open(tmp_path / "said", "w") as said:
        run = subprocess.Popen(command(tmp_path, *STORE), cwd=tmp_path, stdout=said, stderr=said, env=environment())
        killed, until = 0, time.monotonic() + 240
        while run.poll() is None and time.monotonic() < until:
            victims = [pid for pid, words in served(tmp_path).items() if "tied.py" not in words]
            if victims and killed < 6:
                os.kill(victims[0], signal.SIGKILL)
                killed += 1
            time.sleep(1.5)
        if run.poll() is None:
            run.kill()
    text = (tmp_path / "said").read_text()
    assert run.wait(20) == 0 and killed >= 3, text[-3000:]
    assert text.count("the object store ended by itself (signal 9); it is started again") == killed
    for name in SAME:
        assert (tmp_path / "results/aimedres" / name).read_bytes() == (plain / "results/aimedres" / name).read_bytes(), name
    assert not served(tmp_path)


def test_a_bucket_of_ones_own_by_one_setting_and_a_run_that_fails_brings_home_what_there_is(tmp_path):
    overlay = tmp_path / "bad.yaml"
    overlay.write_text("aimedres: {models: {als: {lr: 1.0e+30}}}\n")
    bucket = ("--default-storage-provider", "s3", "--default-storage-prefix", "s3://elsewhere/music", "--cores", "2")
    other = ObjectStore(tmp_path / "other")
    try:
        failed = call(tmp_path, *bucket, "--configfile", str(overlay), keys=keys(other.open()))
    finally:
        other.close()
    text = failed.stdout + failed.stderr
    assert failed.returncode == 1 and "Traceback" not in text, text[-3000:]
    assert "is not a number" in text or "loss is" in text, "the reason is read from the job's log"
    assert not (tmp_path / ".trainyard/store").exists(), "no store of our own"
    assert (tmp_path / "other/store/elsewhere/music/results/aimedres/packs/als/all.safetensors").exists()
    assert (tmp_path / "results/report/index.html").exists()
    assert (tmp_path / "results/aimedres/runs/train_baseline_models/metrics.json").exists(), "what did not fail is home"
    assert "error:" in (tmp_path / "logs/train_model/aimedres/als-fold1.log").read_text(), "and the log of what did"


def test_a_second_run_in_the_folder_is_told_so(tmp_path):
    with open(tmp_path / "said", "w") as said:
        # Whoever runs the tests may have SIGINT ignored, as shells do for what runs in the background.
        first = subprocess.Popen(
            command(tmp_path, *STORE), cwd=tmp_path, stdout=said, stderr=said, env=environment(),
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
    try:
        until = time.monotonic() + 60
        while not list((tmp_path / ".snakemake").glob("locks/*")) and time.monotonic() < until and first.poll() is None:
            time.sleep(0.1)
        second = call(tmp_path, *STORE)
        text = second.stdout + second.stderr
        assert second.returncode == 1 and "Directory cannot be locked" in text and "Traceback" not in text, text[-2000:]
        assert first.poll() is None and served(tmp_path), "the first goes on"
    finally:
        first.send_signal(signal.SIGINT)
        first.wait(60)
    assert not served(tmp_path)
