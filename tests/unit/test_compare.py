"""From predictions to metrics.json, and from those to the comparison."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from trainyard.data.predictions import PartOutput, PredictionTable
from trainyard.report.compare import COLUMNS, ComparisonError, compare
from trainyard.report.evaluate import EvaluationError, evaluate
from trainyard.report.script_metrics import read_script_metrics
from trainyard.report.table import comparison_table, figure

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


def metrics_file(
    folder: Path, run: str, model: str, value: float, *, sd=0.02, gain=0.1, gain_sd=0.02, fold=0, n=50, notes=(), simple=True
) -> Path:
    entry = {
        "part": "diagnosis", "split": "test", "kind": "class", "metric": "auc", "value": value,
        "ci_low": value - 0.04, "ci_high": value + 0.04,
        "sd": sd, "direction": "max", "n": n, "groups": n // 5, "trivial": {"name": "class frequency", "value": 0.5},
        "vs_trivial": {"difference": value - 0.5, "sd": sd, "p_better": 1.0},
    }  # fmt: skip
    if simple:
        entry |= {
            "simple": {"name": "logistic regression", "value": value - gain},
            "vs_simple": {"difference": gain, "sd": gain_sd, "p_better": 0.9},
        }
    found = {
        "suite": "s", "run": run, "model": model, "state": "done", "notes": list(notes), "metrics": [entry],
        "headline": {"part": "diagnosis", "split": "test", "metric": "auc"}, "train_info": {"seconds": 2.5, "parameters": 99, "bytes": 400},
        "meta_info": {"settings": {"fold": fold}},
    }  # fmt: skip
    path = folder / run / "metrics.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found))
    return path


def gathered(comparison: dict, model: str) -> dict:
    return next(r for r in comparison["rows"] if r["model"] == model and r["run"] == "")


def test_folds_are_gathered(tmp_path):
    values = [0.8, 0.82, 0.78, 0.81, 0.79]
    files = [metrics_file(tmp_path, f"als-fold{i}", "als", v, fold=i) for i, v in enumerate(values, 1)]
    comparison = compare("s", files)
    row = gathered(comparison, "als")
    assert row["value"] == pytest.approx(0.8) and (row["runs"], row["n"], row["groups"], row["seconds"]) == (5, 250, 50, 12.5)
    assert row["spread"] == pytest.approx(np.std(values, ddof=1))
    error = 0.02 / 5**0.5  # folds hold different people, so their errors average out
    np.testing.assert_allclose(row["interval_groups"], [0.8 - 1.96 * error, 0.8 + 1.96 * error], atol=1e-5)
    half = 2.776445 * np.std(values, ddof=1) / 5**0.5
    np.testing.assert_allclose(row["interval_t"], [0.8 - half, 0.8 + half], atol=1e-5)
    assert (row["ci_low"], row["ci_high"]) == tuple(row["interval_t"]) and row["interval"] == "t over 5 folds", "the wider one"
    assert row["p_better_trivial"] > 0.99 and row["baseline"] == 0.5 and row["simple"] == pytest.approx(0.7)
    assert sum(r["run"] != "" for r in comparison["rows"]) == 5 and comparison["notes"] == []


def test_seeds_do_not_multiply_the_evidence(tmp_path):
    files = [metrics_file(tmp_path, f"i3d-seed{i}", "i3d", v) for i, v in enumerate((0.7, 0.74, 0.72), 1)]
    row = gathered(compare("s", files), "i3d")
    error = (0.02**2 + np.var([0.7, 0.74, 0.72], ddof=1) / 3) ** 0.5
    assert row["ci_high"] - row["value"] == pytest.approx(1.959964 * error) and row["n"] == 50 and row["runs"] == 3


def test_folds_with_seeds(tmp_path):
    files = [metrics_file(tmp_path, f"a-fold{f}-seed{s}", "a", 0.7 + 0.1 * f + 0.01 * s, fold=f) for f in (1, 2) for s in (1, 2)]
    row = gathered(compare("s", files), "a")
    assert row["runs"] == 4 and row["n"] == 100 and row["interval"] == "t over 2 folds" and row["ci_high"] == 1 and row["ci_low"] < 0.3


def test_a_merge_is_not_one_of_the_shards(tmp_path):
    files = [metrics_file(tmp_path, f"hb-shard0{i}", "hb", 0.7) for i in (1, 2)] + [metrics_file(tmp_path, "hb-merged", "hb", 0.9)]
    comparison = compare("s", files)
    assert [(s["model"], s["headline"]["value"]) for s in comparison["models"]] == [("hb", 0.7), ("hb-merged", 0.9)]
    assert gathered(comparison, "hb")["runs"] == 2


def test_what_is_not_beaten_is_said(tmp_path):
    files = [
        metrics_file(tmp_path, "lucky", "lucky", 0.8, gain=0.001),
        metrics_file(tmp_path, "leaky", "leaky", 0.9, simple=False, notes=["groups unknown: may leak"]),
    ]
    comparison = compare("s", files)
    assert [s["verdict"] for s in comparison["models"]] == [{"trivial": "yes", "simple": "unsure"}, {"trivial": "yes"}]
    assert comparison["notes"] == [
        "lucky: the simple baseline (logistic regression) is not surely beaten: diagnosis auc, 90 % sure that the model is better",
        "leaky: groups unknown: may leak",
    ]


def test_failed_and_missing_runs_have_rows(tmp_path):
    files = [metrics_file(tmp_path, f"als-fold{i}", "als", 0.8, fold=i) for i in (1, 2, 4)]
    expected = [{"run": f"als-fold{i}", "model": "als"} for i in (1, 2, 3, 4)] + [{"run": "lost", "model": "lost"}]
    summary = {
        "jobs": [
            {"rule": "train_model", "suite": "s", "run": "als-fold3", "state": "failed", "reason": "the loss is nan"},
            {"rule": "train_model", "suite": "s", "run": "als-fold4", "state": "failed", "reason": "no space left"},
            {"rule": "train_model", "suite": "other", "run": "als-fold1", "state": "failed", "reason": "not ours"},
            {"rule": "copy_to_local", "suite": "s", "run": "", "state": "failed", "reason": "disk gone"},
        ]
    }
    with pytest.raises(ComparisonError, match="no metrics of als-fold3, lost; give --partial"):
        compare("s", files, expected)
    comparison = compare("s", [*files, tmp_path / "als-fold3" / "metrics.json"], expected, summary, partial=True)
    states = {r["run"]: (r["state"], r["reason"]) for r in comparison["rows"] if r["run"]}
    assert states["als-fold1"] == ("done", "") and states["als-fold3"] == ("failed", "the loss is nan")
    assert states["als-fold4"] == ("failed", "no space left"), "metrics of an earlier success do not hide a failure"
    assert states["lost"] == ("missing", "an earlier step failed: copy_to_local: disk gone")
    row = gathered(comparison, "als")
    assert row["runs"] == 2 and row["reason"] == "mean of 2 of 4 runs; without als-fold3, als-fold4"


def test_a_script_without_intervals_is_compared_too(tmp_path):
    path = tmp_path / "metrics.json"
    entry = {
        "part": "diagnosis",
        "split": "test",
        "metric": "auc",
        "value": 0.7,
        "direction": "max",
        "n": 9,
        "trivial": {"name": "constant", "value": 0.5},
    }
    path.write_text(
        json.dumps({"suite": "s", "run": "train_model", "model": "train_model", "state": "done", "notes": [], "metrics": [entry]})
    )
    comparison = compare("s", [path])
    (row,) = comparison["rows"]
    assert row["value"] == 0.7 and row["baseline"] == 0.5 and row["ci_low"] is None and row["p_better_trivial"] is None
    assert "0.700" in comparison_table(comparison)


def test_a_script_with_intervals_and_baselines_gets_the_whole_row(tmp_path):
    (tmp_path / "output").mkdir()
    entry = {
        "part": "diagnosis", "metric": "auc", "value": 0.8, "ci_low": 0.76, "ci_high": 0.84, "n": 90, "groups": 30,
        "trivial": {"name": "constant", "value": 0.5}, "simple": {"name": "logistic regression", "value": 0.78},
        "vs_trivial": {"difference": 0.3, "ci_low": 0.26, "ci_high": 0.34, "p_better": 1.0},
        "vs_simple": {"difference": 0.02, "ci_low": -0.01, "ci_high": 0.05, "p_better": 0.9},
    }  # fmt: skip
    (tmp_path / "output" / "metrics.json").write_text(json.dumps({"metrics": [entry]}))
    metrics, notes = read_script_metrics([tmp_path / "output"])
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"suite": "s", "run": "train_x", "model": "train_x", "state": "done", "notes": notes, "metrics": metrics}))
    comparison = compare("s", [path])
    (row,) = comparison["rows"]
    assert (row["ci_low"], row["ci_high"], row["baseline"], row["simple"]) == (0.76, 0.84, 0.5, 0.78)
    assert (row["p_better_trivial"], row["p_better_simple"], row["groups"]) == (1.0, 0.9, 30)
    assert comparison["models"][0]["verdict"] == {"trivial": "yes", "simple": "unsure"}
    text = comparison_table(comparison)
    assert "0.800 [0.760, 0.840]" in text and "0.780 yes/90 %" in text and "logistic regression) is not surely beaten" in text


def test_the_table_fits_80_columns(tmp_path):
    long = "a_model_with_a_name_that_is_far_too_long_for_a_terminal"
    files = [metrics_file(tmp_path, long, long, 0.8, gain=-0.2), metrics_file(tmp_path, "b", "b", 0.75)]
    expected = [{"run": long, "model": long}, {"run": "b", "model": "b"}, {"run": "c", "model": "c"}]
    text = comparison_table(compare("s", files, expected, partial=True))
    assert max(map(len, text.splitlines())) <= 80
    assert "0.800 [0.760, 0.840]" in text and "yes/90 %" in text and "c" in text and "missing" in text
    assert [figure(v) for v in (None, 0.5, 123.4, 12345.0, 1e7, 1e-5)] == ["–", "0.500", "123.4", "12345", "1.0e+07", "1.0e-05"]


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
