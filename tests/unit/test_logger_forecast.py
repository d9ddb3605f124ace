"""Forecasts: from what was, with a range; and what the rest of a DAG takes on so many cores."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snakemake_logger_plugin_trainyard.forecast import Forecast
from snakemake_logger_plugin_trainyard.jobs import Job
from snakemake_logger_plugin_trainyard.makespan import makespan
from snakemake_logger_plugin_trainyard.sources import Planned, planned_runs
from snakemake_logger_plugin_trainyard.words import span
from trainyard.config import list_runs, load_config
from trainyard.config.jobs import run_settings
from trainyard.config.work import work_of

HOME = Path(__file__).parents[2]


def train(jobid, run, state="waiting", **more):
    return Job(jobid, "train_model", {"suite": "kmidi", "run": run}, state=state, **more)


def earlier(run, seconds, state="done"):
    return {"rule": "train_model", "suite": "kmidi", "run": run, "state": state, "seconds": seconds}


def test_the_same_job_before_beats_its_like():
    forecast = Forecast([earlier("a", 100), earlier("b", 10)])
    own, alike = forecast.estimate(train(1, "a")), forecast.estimate(train(2, "c"))
    assert own.low < 100 < own.high
    assert alike.source == "alike"
    assert alike.low <= 10
    assert alike.high >= 100


def test_failed_jobs_teach_nothing_and_unknown_stays_unknown(tmp_path):
    forecast = Forecast([earlier("a", 3, "failed")], tmp_path)
    assert forecast.estimate(train(1, "a")) is None
    assert "not known" in forecast.outlook([train(1, "a")], 2, 0.0).words()


def test_what_the_demo_took_says_nothing_of_the_full_scale(tmp_path):
    results = tmp_path / "results"
    demo, full = ({"suites": ["kmidi"], "only": ["groove_predictor"], "scale": scale} for scale in ("demo", "full"))
    loaded = load_config(demo, HOME)
    (run,) = list_runs(loaded)
    settings = run_settings(loaded, run)
    (results / "kmidi/runs" / run.name).mkdir(parents=True)
    (results / "kmidi/preflight").mkdir()
    info = {"train_info": {"seconds": 60}, "meta_info": {"settings": settings}}
    (results / "kmidi/runs" / run.name / "train.json").write_text(json.dumps(info))
    report = {"prediction": {"low": 1, "high": 2}, "work": work_of(settings)}
    (results / "kmidi/preflight/groove_predictor.json").write_text(json.dumps(report))
    found = [
        Forecast([earlier(run.name, 60)], results, planned_runs(c, str(HOME), results)).estimate(train(1, run.name)) for c in (demo, full)
    ]
    assert [f.source for f in found] == ["before", "stated"] and found[1].low < 3600 < found[1].high
    made = tmp_path / "data/demo/kmidi/lakh/manifest.json"
    made.parent.mkdir(parents=True)
    made.write_text(json.dumps({"generator": "lakh", "options": {"songs": 3}, "seed": 0}))
    again = Forecast([earlier(run.name, 60)], results, planned_runs(demo, str(HOME), results)).estimate(train(1, run.name))
    assert again.source == "stated", "other songs are generated now"


def test_benchmark_then_train_json_then_stated_hours(tmp_path):
    folder = tmp_path / "kmidi" / "runs" / "a"
    folder.mkdir(parents=True)
    forecast = Forecast([], tmp_path, {("kmidi", "a"): Planned(3.0)})
    stated = forecast.estimate(train(1, "a"))
    assert stated.low < 3 * 3600 < stated.high
    (folder / "train.json").write_text(json.dumps({"train_info": {"seconds": 60}}))
    measured = Forecast([], tmp_path, {("kmidi", "a"): Planned(3.0)}).estimate(train(1, "a"))
    assert measured.low < 60 < measured.high < 100
    bench = tmp_path / "a.tsv"
    bench.write_text("s\th:m:s\n70.0\t0:01:10\n90.0\t0:01:30\n")
    job = train(1, "a", benchmark=str(bench))
    assert Forecast([], tmp_path).estimate(job).low < 80 < Forecast([], tmp_path).estimate(job).high


def test_the_rest_of_an_interrupted_training_is_not_taken_for_the_whole(tmp_path):
    folder = tmp_path / "kmidi" / "runs" / "a"
    folder.mkdir(parents=True)
    (folder / "train.json").write_text(json.dumps({"train_info": {"seconds": 7200}}))
    bench = tmp_path / "a.tsv"
    bench.write_text("s\n12.0\n")
    estimate = Forecast([earlier("a", 12)], tmp_path).estimate(train(1, "a", benchmark=str(bench)))
    assert estimate.low < 7200 < estimate.high


def test_a_preflight_beats_what_owners_state_and_a_promoted_run_takes_the_rest(tmp_path):
    planned = planned_runs({"suites": ["mono_to_3d"], "scale": "full"}, str(HOME), tmp_path)
    assert planned["mono_to_3d", "i3d"] == Planned(0.6, ("i3d",)) and planned["mono_to_3d", "promoted-2"].hours == pytest.approx(2.4)
    job = lambda rule, run: Job(1, rule, {"suite": "mono_to_3d", "run": run})  # noqa: E731
    slot = Forecast([], tmp_path, planned).estimate(job("train_promoted", "promoted-1"))
    assert slot.source == "stated" and slot.low < 2.4 * 3600 < slot.high
    folder = tmp_path / "mono_to_3d" / "preflight"
    folder.mkdir(parents=True)
    for model, minutes in {"i3d": 10, "slowfast": 20, "transformer": 5, "magvit": 5}.items():
        (folder / f"{model}.json").write_text(json.dumps({"prediction": {"low": 0.9 * minutes, "high": 1.1 * minutes}}))
    forecast = Forecast([], tmp_path, planned)
    own = forecast.estimate(job("train_model", "i3d"))
    assert (own.source, own.low, own.high) == ("preflight", 540, pytest.approx(660))
    assert forecast.estimate(job("train_promoted", "promoted-1")).high == pytest.approx(4 * 1.1 * 1200), (
        "the slowest, four times as long again"
    )
    run = tmp_path / "mono_to_3d" / "runs" / "promoted-1"
    run.mkdir(parents=True)
    (run / "train.json").write_text(json.dumps({"train_info": {"seconds": 1000}, "meta_info": {"report": {"promoted": "x"}}}))
    (tmp_path / "mono_to_3d" / "promotion.json").write_text(json.dumps({"from_epochs": 10, "to_epochs": 50}))
    slot = Forecast([], tmp_path, planned).estimate(job("train_promoted", "promoted-1"))
    assert slot.low < 800 < slot.high <= 1000


def test_more_epochs_take_longer():
    why = "Params have changed since last execution: Union of exclusive params before and now across all output: " + (
        "before: '{\"epochs\": 10}' now: '{\"epochs\": 20}' "
    )
    once = Forecast([earlier("a", 100)]).estimate(train(1, "a"))
    twice = Forecast([earlier("a", 100)]).estimate(train(1, "a", why=why))
    assert twice.high == pytest.approx(2 * once.high)


def test_a_training_is_believed_about_itself():
    forecast = Forecast([earlier("a", 1000)])
    job = train(1, "a", state="running", started=0.0)
    outlook = forecast.outlook([job], 2, 10.0, lambda _: (20.0, 30.0))
    assert outlook.wall == (20.0, 30.0)
    assert outlook.words() == "about 20–30 s left"


def test_a_job_over_its_time_is_not_forecast_to_end_now():
    job = train(1, "a", state="running", started=0.0)
    assert Forecast([earlier("a", 10)]).outlook([job], 2, 100.0).wall[1] > 0


def test_cores_and_order():
    jobs = [train(i, str(i)) for i in range(4)]
    assert makespan(jobs, dict.fromkeys(range(4), 10.0), 2) == 20
    assert makespan(jobs, dict.fromkeys(range(4), 10.0), 4) == 10
    jobs[1].depends, jobs[2].depends, jobs[3].depends = [0], [1], [2]
    assert makespan(jobs, dict.fromkeys(range(4), 10.0), 4) == 40
    wide = [train(0, "a", threads=2), train(1, "b", threads=2)]
    assert makespan(wide, {0: 5.0, 1: 5.0}, 2) == 10
    assert makespan(wide, {0: 5.0, 1: 5.0}, 2, elsewhere=True) == 5, "two jobs at once, however wide"


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12), st.integers(1, 5))
def test_makespan_is_between_its_bounds(times, cores):
    jobs = [train(i, str(i)) for i in range(len(times))]
    wall = makespan(jobs, dict(enumerate(times)), cores)
    assert max(max(times), sum(times) / cores) - 1e-6 <= wall <= sum(times) / cores + max(times) + 1e-6


def test_span_reads_well():
    assert span(40, 55) == "40–55 s"
    assert span(200, 320) == "3.3–5.3 min"
    assert span(4000, 7300) == "1.1–2 h"
    assert span(30, 30.2) == "30 s"
