"""From predictions to metrics.json; and by the commands, without torch, on to the comparison."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from trainyard.data.predictions import PartOutput, PredictionTable
from trainyard.report.compare import COLUMNS
from trainyard.report.evaluate import EvaluationError, evaluate

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
JOB = {"suite": "s", "run": "m", "model": "m", "architecture": "tabular_mlp"}


class FakePack:
    def __init__(self, groups: list[str], ids: list[str] | None = None):
        self.groups, self.ids = groups, ids or [f"t#{i}" for i in range(len(groups))]

    def texts(self, name, rows):
        return [(self.ids if name == "id" else self.groups)[int(r)] for r in rows]


def class_table(path: Path, pack: FakePack, target: np.ndarray, score: np.ndarray, order=None, table=None, **more) -> Path:
    table = table or PredictionTable()
    order = np.arange(len(target)) if order is None else order
    p = np.stack([1 - score, score], axis=1)[order]
    table.add(pack, order[:, None], "test", {"diagnosis": PartOutput.classes(target[order], p)}, **more)
    table.write(path)
    return path


@pytest.fixture
def people(tmp_path):
    """60 patients with 4 visits; a good model, a constant, and a baseline that is nearly as good."""
    rng = np.random.default_rng(0)
    pack = FakePack([f"p{i // 4}" for i in range(240)])
    target = rng.integers(0, 2, 240)
    score = np.clip(0.5 + 0.25 * (2 * target - 1) + rng.normal(0, 0.25, 240), 0.01, 0.99)
    class_table(tmp_path / "predictions.parquet", pack, target, score)
    table = PredictionTable()
    class_table(tmp_path / "baselines.parquet", pack, target, np.full(240, 0.5), table=table, level="trivial", name="class frequency")
    near = np.clip(score + rng.normal(0, 0.02, 240), 0.01, 0.99)
    class_table(
        tmp_path / "baselines.parquet", pack, target, near, rng.permutation(240), table=table, level="simple", name="logistic regression"
    )
    return tmp_path


def test_evaluate_pairs_the_model_with_its_baselines(people):
    found = evaluate(
        JOB, people / "predictions.parquet", people / "baselines.parquet", {"train_info": {"seconds": 3}, "meta_info": {"code": "c"}}
    )
    by = {m["metric"]: m for m in found["metrics"]}
    assert set(by) == {"accuracy", "log_loss", "macro_f1", "auc"} and found["headline"] == {
        "part": "diagnosis",
        "split": "test",
        "metric": "auc",
    }
    auc = by["auc"]
    assert (auc["n"], auc["groups"]) == (240, 60) and auc["ci_low"] < auc["value"] < auc["ci_high"]
    assert auc["trivial"] == {"name": "class frequency", "value": 0.5}
    assert auc["vs_trivial"]["difference"] == pytest.approx(auc["value"] - 0.5) and auc["vs_trivial"]["p_better"] > 0.99
    near = auc["vs_simple"]
    assert abs(near["difference"]) < 0.02 and near["ci_high"] - near["ci_low"] < 0.3 * (auc["ci_high"] - auc["ci_low"]), "paired"
    loss = by["log_loss"]
    assert loss["vs_trivial"]["difference"] == pytest.approx(loss["trivial"]["value"] - loss["value"]), "positive is better, for losses too"
    assert found["groups_known"] and not found["notes"] and found["train_info"]["seconds"] == 3 and found["meta_info"]["code"] == "c"
    assert found == evaluate(
        JOB, people / "predictions.parquet", people / "baselines.parquet", {"train_info": {"seconds": 3}, "meta_info": {"code": "c"}}
    )


def test_values_tokens_and_windows(tmp_path):
    rng = np.random.default_rng(1)
    pack = FakePack([f"song{i // 3}" for i in range(30)])
    items = np.array([[i, start] for i in range(30) for start in (0, 16)])
    target = [rng.normal(2, 1, rng.integers(1, 5)) for _ in items]
    table, base = PredictionTable(), PredictionTable()
    count = np.full(60, 4)
    table.add(pack, items, "test", {"pitch": PartOutput.tokens(count * 1.5, count // 2, count)})
    table.add(pack, items, "test", {"level": PartOutput.values(target, [t + 0.1 for t in target])})
    base.add(
        pack,
        items[::-1],
        "test",
        {"level": PartOutput.values(target[::-1], [np.full_like(t, 2.0) for t in target[::-1]])},
        level="trivial",
        name="training mean",
    )
    base.add(pack, items, "test", {"pitch": PartOutput.tokens(count * 2.0, count // 4, count)}, level="trivial", name="unigram")
    base.add(pack, items, "test", {"pitch": PartOutput.tokens(count * 1.8, count // 4, count)}, level="trivial", name="better unigram")
    table.write(tmp_path / "p.parquet")
    base.write(tmp_path / "b.parquet")
    found = {(m["part"], m["metric"]): m for m in evaluate(JOB, tmp_path / "p.parquet", tmp_path / "b.parquet", {})["metrics"]}
    assert found["pitch", "nll"]["value"] == pytest.approx(1.5) and found["pitch", "nll"]["n"] == 240
    assert found["pitch", "nll"]["trivial"] == {"name": "better unigram", "value": pytest.approx(1.8)}, "the best of a level counts"
    assert found["level", "rmse"]["value"] == pytest.approx(0.1, abs=1e-6)
    flat = np.concatenate(target)
    assert found["level", "r2"]["value"] == pytest.approx(1 - 0.01 * len(flat) / ((flat - 2) ** 2).sum(), abs=1e-4)
    assert found["level", "r2"]["trivial"]["value"] == pytest.approx(0)


def test_unknown_groups_are_said(tmp_path):
    ids = [f"t#{i}" for i in range(40)]
    target = np.arange(40) % 2
    class_table(tmp_path / "p.parquet", FakePack(ids, ids), target, np.where(target, 0.8, 0.3))
    found = evaluate(JOB, tmp_path / "p.parquet", None, {})
    assert not found["groups_known"] and "groups unknown: may leak" in found["notes"]


def test_one_class_only_has_no_auc(tmp_path):
    class_table(tmp_path / "p.parquet", FakePack(["a", "a", "b"]), np.array([1, 1, 1]), np.array([0.2, 0.7, 0.9]))
    found = evaluate(JOB, tmp_path / "p.parquet", None, {})
    assert "auc" not in {m["metric"] for m in found["metrics"]} and any("auc needs both classes" in n for n in found["notes"])
    json.dumps(found, allow_nan=False)


def test_predictions_that_cannot_be_trusted_are_refused(people, tmp_path):
    pack, target = FakePack(["a", "b", "c"]), np.array([0, 1, 1])
    bad = class_table(tmp_path / "nan.parquet", pack, target, np.array([0.1, np.nan, 0.2]))
    with pytest.raises(EvaluationError, match="diverged"):
        evaluate(JOB, bad, None, {})
    other = class_table(
        tmp_path / "other.parquet", FakePack(["x"] * 3, ["u#0", "u#1", "u#2"]), target, np.full(3, 0.5), level="simple", name="stranger"
    )
    with pytest.raises(EvaluationError, match="stranger: no test item in common .* 'u#0' and 't#0'"):
        evaluate(JOB, people / "predictions.parquet", other, {})
    full = FakePack([f"p{i // 4}" for i in range(240)])
    flipped = class_table(tmp_path / "flipped.parquet", full, np.zeros(240, int), np.full(240, 0.5), level="simple", name="old")
    with pytest.raises(EvaluationError, match="other targets"):
        evaluate(JOB, people / "predictions.parquet", flipped, {})
    with pytest.raises(EvaluationError, match="cannot be read"):
        evaluate(JOB, tmp_path / "none.parquet", None, {})


def test_commands_end_to_end_without_torch(people):
    """The commands, with every import of torch made to fail."""
    (people / "block" / "torch").mkdir(parents=True)
    (people / "block" / "torch" / "__init__.py").write_text("raise AssertionError('torch was imported')")
    (people / "train.json").write_text(json.dumps({"train_info": {"seconds": 1.0}}))
    environment = {"PYTHONPATH": str(people / "block"), "PATH": "/usr/bin:/bin"}

    def call(script, *args):
        done = subprocess.run([sys.executable, SCRIPTS / script, *args], capture_output=True, text=True, env=environment, cwd=people)
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = call(
        "evaluate_model.py", "--settings", json.dumps(JOB), "--predictions", "predictions.parquet", "--baselines", "baselines.parquet",
        "--train-json", "train.json", "--output", "metrics.json",
    )  # fmt: skip
    assert "test diagnosis auc" in said and "logistic regression" in said
    expected = json.dumps([{"run": "m", "model": "m"}, {"run": "gone", "model": "gone"}])
    said = call(
        "compare_models.py",
        "--suite",
        "s",
        "--metrics",
        "metrics.json",
        "--output",
        "c.csv",
        "--json",
        "c.json",
        "--expected",
        expected,
        "--partial",
    )
    assert "gone" in said
    with open(people / "c.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS and rows[-1]["state"] == "missing" and rows[-1]["value"] == ""
    assert {r["metric"] for r in rows if r["run"] == "m"} == {"accuracy", "log_loss", "macro_f1", "auc"}
    done = subprocess.run(
        [sys.executable, SCRIPTS / "compare_models.py", "--suite", "s", "--metrics", "no.json", "--output", "a", "--json", "b"],
        capture_output=True,
        text=True,
        cwd=people,
    )
    assert done.returncode == 1 and done.stderr.startswith("error: no.json: cannot be read") and "Traceback" not in done.stderr
