"""Two people, each with a slice of the runs (`worker=NAME`), and their results joined in one bucket: nothing is trained twice."""

import json
from pathlib import Path

from served import keys, needs_rclone
from toy_workflow import call
from trainyard.machines.object_store import ObjectStore

needs_rclone()
BUCKET = ("--default-storage-provider", "s3", "--default-storage-prefix", "s3://ours/yard", "--storage-s3-retries", "12", "--cores", "2")
SLICES = {"A": ("als-fold1",), "B": ("als-fold2", "train_baseline_models")}


def person(folder: Path) -> Path:
    """A folder with the plan that both have."""
    (folder / "results").mkdir(parents=True)
    runs = [{"suite": "aimedres", "run": run, "machine": m, "start": 0, "hours": 1} for m, names in SLICES.items() for run in names]
    (folder / "results/plan.json").write_text(json.dumps({"runs": runs, "machines": [{"name": name} for name in SLICES]}))
    return folder


def test_two_people_join_in_a_bucket(tmp_path):
    store = ObjectStore(tmp_path / "bucket")
    try:
        told = keys(store.open())
        for name, names in SLICES.items():
            done = call(person(tmp_path / name), f"worker={name}", *BUCKET, keys=told)
            text = done.stdout + done.stderr
            assert done.returncode == 0 and f"worker {name}: its {len(names)} runs are done" in text, text[-3000:]
        runs = tmp_path / "bucket/store/ours/yard/results/aimedres/runs"
        before = {path: path.stat().st_mtime_ns for path in runs.glob("*/train.json")}
        assert {path.parent.name for path in before} == {run for names in SLICES.values() for run in names}

        joined = person(tmp_path / "joined")
        planned = call(joined, *BUCKET, "-n", keys=told)
        assert planned.returncode == 0 and "3 jobs would run" in planned.stdout, planned.stdout[-3000:]
        done = call(joined, *BUCKET, keys=told)
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        assert {path: path.stat().st_mtime_ns for path in runs.glob("*/train.json")} == before, "nothing is trained again"
        table = (joined / "results/aimedres/comparison.csv").read_text()
        assert "als" in table and "train_baseline_models" in table and (joined / "results/report/index.html").exists()
    finally:
        store.close()
