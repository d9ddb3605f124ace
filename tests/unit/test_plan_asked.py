"""What is planned is what the configuration asks for now, and hours are those of such runs."""

import json

import pytest
from plan_inputs import HOME, jobs_of, machines, train
from trainyard.config.command_line import read_config
from trainyard.config.jobs import run_settings
from trainyard.config.work import work_of
from trainyard.dag.jobs import Jobs
from trainyard.plan.actual import compare, corrected
from trainyard.plan.make import make_plan
from trainyard.plan.problem import NoPlan
from trainyard.plan.tasks import list_tasks


def trained(results, jobs, hours=0.01, host="box", **more) -> None:
    """All runs of a configuration, with the settings that they had."""
    for run in jobs.runs:
        settings = run_settings(jobs.config, run)
        train(results, run.suite, run.name, hours, host, settings["epochs"], meta_info={"settings": settings}, **more)


def test_runs_of_the_demo_do_not_count_as_done_at_full_scale_nor_do_their_hours(tmp_path):
    demo, full = jobs_of("suites=kmidi"), jobs_of("suites=kmidi", "scale=full")
    trained(tmp_path, demo)
    with pytest.raises(NoPlan, match="every run is done"):
        make_plan(demo, machines(a={}), tmp_path, seconds=1)
    plan = make_plan(full, machines(a={}), tmp_path, seconds=1)
    assert plan["hours"] == pytest.approx(8) and {r["source"] for r in plan["runs"]} == {"stated"}


def test_runs_of_other_epochs_are_planned_again_with_the_hours_they_took(tmp_path):
    trained(tmp_path, jobs_of("suites=kmidi", "only=groove_predictor", "epochs=5"), hours=0.5)
    tasks = list_tasks(jobs_of("suites=kmidi", "only=groove_predictor", "epochs=10"), tmp_path)
    assert [(t.run, t.source) for t in tasks] == [("groove_predictor", "earlier")]
    assert tasks[0].hours == pytest.approx(1)


def test_runs_on_data_generated_otherwise_or_in_other_folds_are_planned(tmp_path):
    results = tmp_path / "results"
    jobs = jobs_of("suites=aimedres", "only=als")
    trained(results, jobs)
    made = tmp_path / "data/demo/aimedres/als/manifest.json"
    made.parent.mkdir(parents=True)
    dataset = jobs.dataset("aimedres", "als")
    made.write_text(json.dumps({"generator": dataset.generator, "options": dataset.generate, "seed": dataset.seed}))
    split = results / "aimedres/data/als/splits.json"
    split.parent.mkdir(parents=True)
    split.write_text(json.dumps({"folds": [{}] * 5}))
    assert not list_tasks(jobs, results)
    fewer = list_tasks(jobs_of("suites=aimedres", "only=als", "folds=3"), results)
    assert len(fewer) == 3 and {t.source for t in fewer} == {"stated"}
    split.unlink()
    made.write_text(json.dumps({"generator": dataset.generator, "options": {"patients": 7}, "seed": dataset.seed}))
    assert len(list_tasks(jobs, results)) == 5


def test_a_merge_is_planned_where_one_of_its_shards_is(tmp_path):
    jobs = jobs_of("suites=housebrain")
    trained(tmp_path, jobs)
    (tmp_path / "housebrain/merged/housebrain").mkdir(parents=True)
    (tmp_path / "housebrain/merged/housebrain/accepted.json").write_text("{}")
    assert not list_tasks(jobs, tmp_path)
    train(tmp_path, "housebrain", "housebrain-shard02", 1, "box", meta_info={"settings": {"epochs": 99}})
    assert {t.run for t in list_tasks(jobs, tmp_path)} == {"housebrain-shard02", "housebrain-merged"}


def test_promoted_runs_are_planned_where_what_they_go_on_with_is(tmp_path):
    jobs = jobs_of("suites=mono_to_3d", "scale=full")
    trained(tmp_path, jobs)
    promote = jobs.promote("mono_to_3d")
    for slot in jobs.slots:
        train(tmp_path, slot.suite, slot.name, 1, "box", promote.to_epochs, meta_info={"settings": {"epochs": promote.to_epochs}})
    assert not list_tasks(jobs, tmp_path)
    train(tmp_path, "mono_to_3d", "magvit", 1, "box", meta_info={"settings": {"epochs": 1}})
    assert {t.run for t in list_tasks(jobs, tmp_path)} == {"magvit", *(s.name for s in jobs.slots)}


def test_a_preflight_of_another_scale_predicts_nothing_and_other_epochs_take_other_hours(tmp_path):
    config = read_config(HOME, [], ["suites=kmidi", "only=groove_predictor", "scale=full"])
    config["kmidi"] = {"models": {"groove_predictor": {"hours": None}}}
    jobs = Jobs(config, HOME)
    folder = tmp_path / "kmidi" / "preflight"
    folder.mkdir(parents=True)
    work = work_of(run_settings(jobs.config, jobs.runs[0]))
    report = {"prediction": {"minutes": 30}, "work": work, "epochs": jobs.model("kmidi", "groove_predictor").epochs // 2}
    (folder / "groove_predictor.json").write_text(json.dumps(report))
    assert [(t.source, t.hours) for t in list_tasks(jobs, tmp_path)] == [("preflight", pytest.approx(1))]
    (folder / "groove_predictor.json").write_text(json.dumps(report | {"work": "of the demo"}))
    assert list_tasks(jobs, tmp_path)[0].source == "limit"
    stated = make_plan(jobs_of("suites=kmidi", "only=groove_predictor", "scale=full"), machines(a={}), tmp_path, seconds=1)
    assert "Preflight predicts" not in " ".join(stated["advice"])


def test_speeds_are_not_corrected_by_other_epochs_other_work_or_time_limits(tmp_path):
    described = machines(a={"host": "box"}, b={})
    jobs = jobs_of("suites=kmidi", "scale=full")
    plan = make_plan(jobs, described, tmp_path, seconds=1)
    run = next(r for r in plan["runs"] if r["machine"] == "a")
    train(tmp_path, "kmidi", run["run"], run["hours"] / 4, "box", run["epochs"])
    assert corrected({}, compare(plan, tmp_path, described)) == {"a": pytest.approx(4)}
    train(tmp_path, "kmidi", run["run"], run["hours"] / 4, "box", run["epochs"] // 4)
    assert compare(plan, tmp_path, described) == []
    trained(tmp_path, jobs_of("suites=kmidi"), host="box")
    assert compare(plan, tmp_path, described) == [], "the demo was trained, the full scale was planned"
    train(tmp_path, "kmidi", run["run"], run["hours"] / 4, "box", run["epochs"])
    guess = compare({**plan, "runs": [{**run, "source": "limit"}]}, tmp_path, described)
    assert len(guess) == 1 and corrected({}, guess) == {}


def test_found_scripts_are_planned_with_the_memory_they_are_said_to_need(tmp_path):
    config = read_config(HOME, [], ["suites=aimedres", "only=train_model"])
    config["aimedres"] = {"discover": {"mem_mb": 30000, "threads": 3}}
    with pytest.raises(NoPlan, match="it needs 30 GB of memory, a slot of small has 16"):
        make_plan(Jobs(config, HOME), machines(small={"memory_gb": 16}), tmp_path, seconds=1)
    assert list_tasks(Jobs(config, HOME), tmp_path)[0].threads == 3
