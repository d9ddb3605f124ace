"""What a found script may report: figures, intervals, paired differences; what is wrong with one costs only itself."""

import json

import pytest
from found_scripts import write
from trainyard.report.script_metrics import read_script_metrics

FULL = {
    "metric": "log_loss", "value": 0.5, "ci_low": 0.4, "ci_high": 0.6, "n": 90, "groups": 30,
    "trivial": {"name": "frequency", "value": 0.7}, "vs_trivial": {"difference": 0.2, "ci_low": 0.1, "ci_high": 0.3, "p_better": 0.99},
    "simple": {"name": "logistic", "value": 0.45}, "vs_simple": {"difference": -0.05, "ci_low": -0.1, "ci_high": 0.01, "p_better": 0.1},
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "taken", "note"),
    [
        ('{"accuracy": 0.9, "seconds_per_epoch": 3, "name": "x"}', [("accuracy", 0.9, "max")], "direction"),
        ('{"metrics": {"rmse": 2}}', [("rmse", 2.0, "min")], ""),
        (
            '{"metrics": [{"metric": "zest", "value": 1, "direction": "min"}, {"metric": "auc", "value": NaN}]}',
            [("zest", 1.0, "min")],
            "finite",
        ),
        ('{"metrics": [{"metric": "auc", "value": true}, 3]}', [], "no metric's name"),
        ("[1, 2]", [], "no list of metrics"),
        ("{", [], "not JSON"),
        ('{"metrics": [' + ",".join(['{"metric": "auc", "value": 1}'] * 300) + "]}", [("auc", 1.0, "max")] * 200, "first 200 of 300"),
        ('{"metrics": []}' + " " * (1 << 20), [], "more than"),
    ],
)
def test_reported_metrics_are_checked(tmp_path, text, taken, note):
    write(tmp_path / "results.json", text)
    metrics, notes = read_script_metrics([tmp_path])
    assert [(m["metric"], m["value"], m["direction"]) for m in metrics] == taken
    assert note in " ".join(notes) and bool(note) == bool(notes)
    json.dumps(metrics, allow_nan=False)


def test_intervals_and_paired_differences_are_taken_whole(tmp_path):
    write(tmp_path / "metrics.json", json.dumps({"metrics": [FULL]}))
    (taken,), notes = read_script_metrics([tmp_path])
    assert notes == [] and {key: taken[key] for key in FULL} == FULL and taken["direction"] == "min"


@pytest.mark.parametrize(
    ("change", "lost", "note"),
    [
        ({"ci_low": 0.7}, {"ci_low": None, "ci_high": None}, "ci_low and ci_high are not an interval"),
        ({"ci_high": None}, {"ci_low": None, "ci_high": None}, "not an interval"),
        ({"groups": -1}, {"groups": None}, ""),
        ({"vs_trivial": {"difference": -0.2, "p_better": 0.01}}, {"vs_trivial": None}, "vs_trivial: its difference contradicts the values"),
        ({"vs_simple": {"difference": 0.05}}, {"vs_simple": None}, "contradicts"),
        ({"simple": None}, {"simple": None, "vs_simple": None}, "vs_simple without the value of simple"),
        ({"vs_simple": 3}, {"vs_simple": None}, "vs_simple: needs a finite difference"),
        ({"vs_simple": {"p_better": 0.9}}, {"vs_simple": None}, "needs a finite difference"),
        (
            {"vs_simple": {"difference": -0.05, "ci_low": 1, "ci_high": 0, "p_better": 0.1}},
            {"vs_simple": {"difference": -0.05, "ci_low": None, "ci_high": None, "p_better": 0.1}},
            "vs_simple: ci_low and ci_high",
        ),
        (
            {"vs_simple": {"difference": -0.05, "p_better": 99}},
            {"vs_simple": {"difference": -0.05, "ci_low": None, "ci_high": None, "p_better": None}},
            "p_better is not between 0 and 1",
        ),
    ],
)
def test_what_is_wrong_with_an_interval_costs_only_itself(tmp_path, change, lost, note):
    write(tmp_path / "metrics.json", json.dumps({"metrics": [FULL | change]}))
    (taken,), notes = read_script_metrics([tmp_path])
    assert {key: taken.get(key) for key in FULL} == FULL | lost
    assert note in " ".join(notes) and len(notes) == bool(note)
