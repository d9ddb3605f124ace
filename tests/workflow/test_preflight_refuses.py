"""A preflight that fails: nothing is trained, the reason reaches the person, and the next call goes on once it is put right."""

import json

from workflow_runs import jobs_of, snakemake

CONFIG = ("suites=aimedres", "only=als", "folds=2", "epochs=1", "subset_size=200")
ONE_CLASS = "aimedres: {datasets: {als: {label: {column: diagnosis, map: {fast: slow}}}}}\n"
RUN = "results/aimedres/runs/als-fold1/train.json"


def test_training_refuses_and_says_what_to_do(tmp_path):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(ONE_CLASS)
    first = snakemake(tmp_path, RUN, "--configfile", str(overlay), config=CONFIG)
    text = first.stdout + first.stderr
    assert first.returncode != 0
    assert "every training sample is 'slow'" in text and "trainyard preflight" in text, text[-3000:]
    assert "correct the label rule" in (tmp_path / "logs/train_model/aimedres/als-fold1.log").read_text()
    report = json.loads((tmp_path / "results/aimedres/preflight/als.json").read_text())
    assert report["verdict"] == "fail" and report["runs"] == 2
    assert jobs_of(tmp_path, "failed") == {("train_model", "als-fold1"): 1}
    assert not list((tmp_path / "checkpoints").rglob("*.safetensors"))

    second = snakemake(tmp_path, RUN, config=CONFIG)
    assert second.returncode == 0, second.stdout[-3000:] + second.stderr[-3000:]
    assert json.loads((tmp_path / "results/aimedres/preflight/als.json").read_text())["verdict"] == "ok"
