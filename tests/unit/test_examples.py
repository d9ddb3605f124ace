"""The shipped example scripts: they learn, and are honest about how surely."""

import importlib.util
import json
import sys

import numpy as np
import pandas as pd
import pytest
from found_scripts import ROOT, launch, write
from sklearn.metrics import roc_auc_score
from trainyard.report.script_metrics import read_script_metrics

EXAMPLES = ["train_baseline_models", "train_model"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_shipped_examples_learn_and_show_how_surely(tmp_path, name):
    script = ROOT / "examples" / "aimedres" / f"{name}.py"
    assert launch(script, tmp_path, epochs=8, folds=2, batch_size=32, extra_args=["--verbose", "--early-stopping"]).wait() == 0
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert found["notes"] == [] and found["headline"]["metric"] == "auc" and {m["metric"] for m in found["metrics"]} == {"auc", "accuracy"}
    for m in found["metrics"]:
        assert m["ci_low"] < m["value"] < m["ci_high"] and m["groups"] == 300 < m["n"]
        assert m["trivial"]["value"] == 0.5 if m["metric"] == "auc" else 0.4 < m["trivial"]["value"] < 0.6
        assert 0.5 < m["simple"]["value"] < 0.7 and m["simple"]["name"] == "logistic regression"
        for level in ("trivial", "simple"):
            gain = m[f"vs_{level}"]
            assert gain["difference"] == pytest.approx(m["value"] - m[level]["value"])
            assert gain["ci_low"] < gain["difference"] < gain["ci_high"]
            assert gain["p_better"] > 0.975 and m["value"] > 0.6, "the table holds what a straight line cannot see"


@pytest.fixture(scope="module", params=EXAMPLES)
def example(request):
    spec = importlib.util.spec_from_file_location(f"example_{request.param}", ROOT / "examples" / "aimedres" / f"{request.param}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_examples_draw_patients_not_visits(example):
    """Every visit written down four times is no more evidence."""
    rng = np.random.default_rng(0)
    patients, y = np.arange(60), rng.integers(0, 2, 60)
    score, simple = np.round(y * 0.3 + rng.random(60) * 0.7, 1), rng.random(60)
    once = example.report("x", y, patients, score, np.zeros(60), simple)
    four = example.report("x", *(np.repeat(a, 4) for a in (y, patients, score, np.zeros(60), simple)))
    assert once[0]["value"] == pytest.approx(roc_auc_score(y, score)) and once[1]["trivial"]["value"] == pytest.approx(1 - y.mean())
    for a, b in zip(once, four):
        assert (a["n"], a["groups"], b["n"], b["groups"]) == (60, 60, 240, 60)
        assert [a["ci_low"], a["ci_high"]] == pytest.approx([b["ci_low"], b["ci_high"]]) and a["ci_low"] < a["value"] < a["ci_high"]
        assert a["vs_simple"] == pytest.approx(b["vs_simple"])


def test_examples_learn_nothing_of_held_out_patients(example, tmp_path, monkeypatch):
    """Each patient's visits look alike and share a label drawn by lot: who tests on a patient seen in training is near 1."""
    rng = np.random.default_rng(3)
    who = np.repeat(np.arange(120), 4)
    table = pd.DataFrame(rng.normal(size=(120, 40))[who]).add_prefix("x")
    table["person"] = [f"{w:03d}" for w in who]
    table["word"] = [None if w % 7 == 0 else "xyz"[w % 3] for w in who]
    table["ill"] = np.where(rng.random(120) < 0.5, "yes", "no")[who]
    table.loc[5, "x0"], table.loc[9, "ill"] = None, None
    table.to_csv(tmp_path / "own.csv", index=False, encoding="utf-8-sig")
    arguments = ["x", "--data", tmp_path / "own.csv", "--label", "ill", "--group", "person", "--folds", "3", "--output-dir", tmp_path / "o"]
    monkeypatch.setattr(sys, "argv", [str(a) for a in arguments])
    monkeypatch.setattr(example, "DRAWS", 50)
    example.main()
    metrics, notes = read_script_metrics([tmp_path / "o"])
    assert not notes and {(m["n"], m["groups"]) for m in metrics} == {(479, 120)}
    assert all(0.3 < m["value"] < 0.58 for m in metrics)


def test_examples_say_what_is_wrong_with_a_table(example, tmp_path):
    path = write(tmp_path / "t.csv", "patient_id,age,diagnosis\n001,50,0\n002,60,1\n,70,1\n003,,\n")
    x, y, patients = example.read_table(path, "diagnosis", "patient_id")
    assert list(x.columns) == ["age"] and y.tolist() == [0, 1] and patients.tolist() == [0, 1]
    for label, group, said in (
        ("stage", "patient_id", "'stage'.*--label"),
        ("diagnosis", "who", "'who'.*--group"),
        ("age", "diagnosis", "3 val"),
    ):
        with pytest.raises(SystemExit, match=said):
            example.read_table(path, label, group)
