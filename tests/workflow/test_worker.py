"""Each does a part: `worker=NAME` runs what the plan, or the machines file, gives one machine; then one call joins it, training nothing."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from trainyard.config.base import ConfigError
from trainyard.config.command_line import read_config
from trainyard.dag.follow import Follow
from trainyard.dag.jobs import Jobs
from workflow_runs import HOME, snakemake, started, table

TOY = ("suites=aimedres", "only=als,train_baseline_models", "folds=2", "epochs=2", "subset_size=200")
OWNERS = {
    "A": {"host": "crispy-funicular", "description": "cloud CPU: audio models", "runs": ["emotion_recognizer", "dynamics_engine"]},
    "B": {"host": "cautious-couscous", "runs": ["groove_predictor"]},
    "C": {"description": "the Mac", "runs": ["melody_transformer", "harmony_predictor"]},
    "D": {},
}


@pytest.fixture
def there(tmp_path, monkeypatch) -> Path:
    """A folder to work in, with the machines of the music models' owners."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "machines.yaml").write_text(yaml.safe_dump({"machines": OWNERS}))
    return tmp_path


def jobs_of(*words: str) -> Jobs:
    return Jobs(read_config(HOME, [], ["machines=machines.yaml", *words]), HOME)


def plan(folder: Path, *words: str) -> dict:
    done = subprocess.run(
        [sys.executable, str(HOME / "workflow/scripts/plan_machines.py"), "--seconds", "1", "--config", *words],
        cwd=folder, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "results/plan.json").read_text())


def test_a_worker_has_its_runs_and_the_data_they_need(there):
    a, b = jobs_of("suites=kmidi", "worker=A"), jobs_of("suites=kmidi", "worker=B")
    assert [r.name for r in a.runs] == ["emotion_recognizer", "dynamics_engine"] and a.used_datasets() == [("kmidi", "m4singer")]
    assert [r.name for r in b.runs] == ["groove_predictor"] and b.used_datasets() == [("kmidi", "lakh")]
    assert {name for _, name in a.others} == {"groove_predictor", "melody_transformer", "harmony_predictor"}
    assert not jobs_of("suites=kmidi").others


@pytest.mark.parametrize(
    "words,said",
    [
        (("worker=a",), ["no machine is called 'a'", "machines.yaml", "known: A, B, C, D"]),
        (("worker=D",), ["nothing is assigned to 'D'", "make plan", "machines.D.runs"]),
        (("worker=A", "suites=crescendai"), ["nothing to do for 'A'"]),
        (("worker=A", "only=groove_predictor"), ["nothing to do for 'A'"]),
    ],
)
def test_a_worker_without_work_is_told_why(there, words, said):
    with pytest.raises(ConfigError) as refusal:
        jobs_of(*words)
    assert all(word in str(refusal.value) for word in said), refusal.value


def test_an_assignment_that_nothing_is_called_is_a_mistake_but_one_for_another_suite_is_not(there):
    (there / "machines.yaml").write_text(yaml.safe_dump({"machines": {"A": {"runs": ["groove_predictor", "housebrain"]}}}))
    assert [r.name for r in jobs_of("suites=kmidi", "worker=A").runs] == ["groove_predictor"]
    (there / "machines.yaml").write_text(yaml.safe_dump({"machines": {"A": {"runs": ["groove_predicter"]}}}))
    with pytest.raises(ConfigError, match="nothing is called 'groove_predicter'; did you mean 'groove_predictor'"):
        jobs_of("suites=kmidi", "worker=A")


def test_what_is_made_of_several_runs_is_left_to_who_has_them_all(there):
    every = {"A": {"runs": ["i3d", "slowfast"]}, "B": {"runs": ["transformer", "magvit"]}, "C": {"runs": ["mono_to_3d"]}}
    (there / "machines.yaml").write_text(yaml.safe_dump({"machines": every}))
    half, whole = jobs_of("suites=mono_to_3d", "worker=A"), jobs_of("suites=mono_to_3d", "worker=C")
    assert not half.slots and not half.ensembles, "a promotion among half of the candidates would be another one"
    assert len(whole.slots) == 2 and whole.ensembles


def test_the_plan_decides_and_pins_hold(there):
    made = plan(there, "suites=kmidi", "machines=machines.yaml")
    where = {r["run"]: r["machine"] for r in made["runs"]}
    assert where["groove_predictor"] == "B" and where["melody_transformer"] == "C"
    (there / "machines.yaml").write_text(yaml.safe_dump({"machines": {"A": {}, "B": {}}}))
    made = plan(there, "suites=kmidi", "machines=machines.yaml")
    for worker in "AB":
        mine = {r["run"] for r in made["runs"] if r["machine"] == worker}
        assert mine and {r.name for r in jobs_of("suites=kmidi", f"worker={worker}").runs} == mine


def test_two_workers_and_a_last_call_that_joins(tmp_path):
    machines = {"A": {}, "B": {"runs": ["train_baseline_models"]}}
    (tmp_path / "machines.yaml").write_text(yaml.safe_dump({"machines": machines}))
    words = (*TOY, "machines=machines.yaml")
    made = plan(tmp_path, *words)
    slices = {w: {f"{r['suite']}/{r['run']}" for r in made["runs"] if r["machine"] == w} for w in "AB"}
    assert all(slices.values())
    for worker in "AB":
        done = snakemake(tmp_path, config=(*words, f"worker={worker}"))
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        trained = {job.split()[1] for job in started(done) if job.split()[0] in ("train_model", "run_script")}
        assert trained == slices[worker]
        assert f"worker {worker}: its {len(trained)} runs are done; left to others: " in done.stdout
    rows = {r["run"] for r in table(tmp_path / "results/aimedres/comparison.csv")}
    assert {path.split("/")[1] for path in slices["A"]} <= rows, "the second worker's comparison has what the first did"
    last = snakemake(tmp_path, config=words)
    assert last.returncode == 0, last.stdout[-3000:] + last.stderr[-3000:]
    assert not [job for job in started(last) if job.split()[0] in ("train_model", "run_script")]
    rows = {r["run"] for r in table(tmp_path / "results/aimedres/comparison.csv")}
    assert {"als-fold1", "als-fold2", "train_baseline_models"} <= rows
    # A plan made anew, for other machines, changes order and places and nothing else.
    (tmp_path / "machines.yaml").write_text(yaml.safe_dump({"machines": {"x": {"speed": 2}, "y": {}, "z": {}}}))
    command = [sys.executable, str(HOME / "workflow/scripts/plan_machines.py"), "--all", "--config", *words]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120).returncode == 0
    assert {m["name"] for m in json.loads((tmp_path / "results/plan.json").read_text())["machines"]} == {"x", "y", "z"}
    dry = snakemake(tmp_path, "--dry-run", config=words)
    assert dry.returncode == 0 and "nothing to" in (dry.stdout + dry.stderr).lower()


def test_pins_say_where_runs_go_without_a_plan(there):
    host = Follow(jobs_of("suites=kmidi")).host
    assert host(SimpleNamespace(suite="kmidi", run="groove_predictor")) == "B"
    assert host(SimpleNamespace(suite="kmidi", run="melody_transformer")) == "C"
    assert Follow(jobs_of("suites=crescendai")).host(SimpleNamespace(suite="crescendai", run="fusion")) is None
