"""From the metrics of runs to the comparison of their models: gathered, what is not beaten, what is missing, the table."""

import json
from pathlib import Path

import numpy as np
import pytest
from trainyard.report.compare import ComparisonError, compare
from trainyard.report.script_metrics import read_script_metrics
from trainyard.report.table import comparison_table, figure


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
