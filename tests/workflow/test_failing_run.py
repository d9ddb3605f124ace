"""One broken run: the others finish, everything says which and why, and the next call runs exactly what is missing."""

from workflow_runs import jobs_of, snakemake, started, summary, table

CONFIG = ("suites=aimedres", "only=als,train_*", "folds=2", "epochs=1", "subset_size=200")
GOOD = "import json, os\njson.dump({'metrics': []}, open(os.path.join(os.environ['TRAINYARD_OUTPUT_DIR'], 'metrics.json'), 'w'))\n"
BAD = "import sys\nprint('reading the table')\nraise ValueError('column dose has no unit')\n"


def test_one_failure_stops_nothing_else(tmp_path):
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "train_good.py").write_text(GOOD)
    (scripts / "train_bad.py").write_text(BAD)
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(f"aimedres: {{discover: {{root: '{scripts}'}}}}\n")
    call = lambda *args: snakemake(tmp_path, "--configfile", str(overlay), *args, config=CONFIG)  # noqa: E731

    first = call("--retries", "1")
    assert first.returncode != 0
    text = first.stdout + first.stderr
    assert "column dose has no unit" in text and "train_bad" in text and "attempt 2" in text
    failed = [j for j in summary(tmp_path)["jobs"] if j["state"] == "failed"]
    assert [(j["rule"], j["run"], j["attempts"]) for j in failed] == [("run_script", "train_bad", 2)]
    assert "column dose has no unit" in failed[0]["reason"] and (tmp_path / failed[0]["log"]).exists()
    done = jobs_of(tmp_path, "done")
    assert done["run_script", "train_good"] == 1 and done["evaluate_model", "als-fold1"] == done["evaluate_model", "als-fold2"] == 1

    # Comparison and report exist all the same, and show the failed row.
    rows = table(tmp_path / "results/aimedres/comparison.csv")
    row = next(r for r in rows if r["run"] == "train_bad")
    assert row["state"] == "failed" and "column dose has no unit" in row["reason"]
    page = (tmp_path / "results/report/index.html").read_text()
    assert "train_bad" in page and "column dose has no unit" in page

    # The next call: the failed target and what depends on it, and nothing else.
    (scripts / "train_bad.py").write_text(GOOD)
    second = call()
    assert second.returncode == 0, second.stdout + second.stderr
    assert started(second) == ["build_report", "compare_models aimedres", "run_script aimedres/train_bad"]
    rows = table(tmp_path / "results/aimedres/comparison.csv")
    assert {r["state"] for r in rows} == {"done"}
