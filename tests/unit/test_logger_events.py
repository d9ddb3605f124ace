"""Events joined into jobs, the summary they become, and what is shown of them."""

import io
import json
import logging
import sys
from types import SimpleNamespace

import pytest
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.tests import TestLogHandlerBase as InterfaceTests
from snakemake_logger_plugin_trainyard import LogHandler, LogHandlerSettings
from snakemake_logger_plugin_trainyard.conductor import Conductor
from snakemake_logger_plugin_trainyard.events import Tracker
from snakemake_logger_plugin_trainyard.messages import plain_message
from snakemake_logger_plugin_trainyard.words import fold_names


class TestInterface(InterfaceTests):
    """What Snakemake itself asks of a logger plugin."""

    __test__ = True

    @pytest.fixture(autouse=True)
    def _away(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)

    def get_log_handler_cls(self):
        return LogHandler

    def get_log_handler_settings(self):
        return LogHandlerSettings()


def record(event=None, msg="", level=logging.INFO, created=1000.0, **extra):
    made = logging.LogRecord("snakemake.logging", level, "x.py", 1, msg, (), None)
    made.created = created
    if event is not None:
        made.event = event
    vars(made).update(extra)
    return made


def job_info(jobid, rule="train_model", suite="kmidi", run="a", **more):
    wildcards = {"suite": suite, "run": run}
    command = f"exec train {suite} {run}"
    return record(
        LogEvent.JOB_INFO, jobid=jobid, rule_name=rule, wildcards=wildcards, reason="Missing output files: x", output=["x"],
        log=more.pop("log", []), shellcmd=command, threads=1, local=True, **more,
    )  # fmt: skip


def started(jobid, at=1000.0):
    return record(LogEvent.JOB_STARTED, jobs=[jobid], created=at)


def failed(jobid, at=1010.0):
    return record(
        LogEvent.JOB_ERROR,
        f"Error in rule train_model, jobid: {jobid}",
        logging.ERROR,
        at,
        jobid=jobid,
        rule_name="train_model",
        rule_msg=None,
    )


def plan_of(*entries):
    jobs = [
        {"jobid": i, "rule": rule, "wildcards": {"suite": "kmidi", "run": run}, "output": ["x"], "log": [], "benchmark": None, "threads": 1,
         "target": False, "depends": depends, "needrun": needrun}
        for i, rule, run, depends, needrun in entries
    ]  # fmt: skip
    return record(LogEvent.RUN_INFO, stats={"total": len(jobs)}, trainyard_plan={"jobs": jobs, "config": {}, "home": ".", "whole": True})


def test_an_error_without_wildcards_is_joined_on_the_id(tmp_path):
    log = tmp_path / "a.log"
    log.write_text("error: no sample of class 'sad'\n")
    tracker = Tracker()
    for event in (started(4), job_info(4, log=[str(log)]), failed(4)):
        notices = tracker.handle(event)
    job = tracker.jobs[4]
    assert (job.suite, job.run, job.state, job.attempts) == ("kmidi", "a", "failed", 1)
    assert job.reason == "error: no sample of class 'sad'"
    assert [n.kind for n in notices] == ["failed"]


def test_attempts_are_counted_and_a_late_success_is_done():
    tracker = Tracker()
    for event in (started(4), job_info(4), failed(4), record(msg="Trying to restart job 4."), started(4, 1020), job_info(4)):
        tracker.handle(event)
    assert tracker.jobs[4].state == "running"
    tracker.handle(record(LogEvent.JOB_FINISHED, job_id=4, created=1030))
    job = tracker.jobs[4]
    assert (job.state, job.attempts, job.reason, job.seconds) == ("done", 2, None, 10)


def test_a_missing_output_fails_its_job_though_snakemake_sends_no_job_error():
    tracker = Tracker()
    tracker.handle(started(7))
    tracker.handle(job_info(7))
    text = (
        'MissingOutputException in rule miss in file "Snakefile", line 17:\n'
        "Job 7  completed successfully, but some output files are missing. "
        "Missing files after 5 seconds. …:\nresults/a/miss.txt (missing locally, parent dir contents: )"
    )
    notices = tracker.handle(record(LogEvent.ERROR, text, logging.ERROR, exception="MissingOutputException"))
    assert [n.kind for n in notices] == ["failed"]
    assert tracker.jobs[7].reason == "its command ended well but did not write results/a/miss.txt"
    assert not tracker.broken


def test_exit_status_is_kept_and_its_command_not_repeated():
    tracker = Tracker()
    tracker.handle(started(1))
    tracker.handle(job_info(1))
    text = 'RuleException:\nCalledProcessError in file "Snakefile", line 16:\n'
    text += "Command 'set -euo pipefail;  exec train kmidi a' died with <Signals.SIGKILL: 9>."
    assert tracker.handle(record(LogEvent.ERROR, text, logging.ERROR, exception="RuleException")) == []
    tracker.handle(failed(1))
    assert "out of memory" in tracker.jobs[1].reason


def test_what_waits_for_a_failed_job_is_skipped_because_of_it():
    tracker = Tracker()
    tracker.handle(
        plan_of(
            (1, "train_model", "a", [], True),
            (2, "evaluate_model", "a", [1], True),
            (3, "report", "all", [2], True),
            (4, "train_model", "b", [], True),
        )
    )
    for event in (started(1), job_info(1), started(4), job_info(4, run="b"), failed(1), record(LogEvent.JOB_FINISHED, job_id=4)):
        tracker.handle(event)
    tracker.close(2000.0)
    assert [tracker.jobs[i].state for i in (1, 2, 3, 4)] == ["failed", "skipped", "skipped", "done"]
    assert tracker.jobs[3].reason == "needs train_model kmidi/a, which failed"
    counts = tracker.counts()
    assert (counts["total"], counts["done"], counts["failed"], counts["skipped"]) == (4, 1, 1, 2)


def test_jobs_ended_by_the_user_are_interrupted_not_failed():
    tracker = Tracker()
    for event in (started(1), job_info(1), record(msg="Terminating processes on user request, this might take some time."), failed(1)):
        tracker.handle(event)
    assert tracker.jobs[1].state == "interrupted"
    assert tracker.by_state("failed") == []


def conductor(tmp_path, monkeypatch, **output):
    monkeypatch.chdir(tmp_path)
    settings = {"dryrun": False, "quiet": None, "verbose": False, "nocolor": False, "stdout": False, **output}
    stream = io.StringIO()
    return Conductor(SimpleNamespace(**settings), stream=stream, heartbeat=0), stream


def test_summary_is_whole_at_every_moment(tmp_path, monkeypatch):
    made, _ = conductor(tmp_path, monkeypatch)
    read = lambda: json.loads((tmp_path / "results" / "summary.json").read_text())  # noqa: E731
    made.emit(plan_of((1, "train_model", "a", [], True), (2, "evaluate_model", "a", [1], True), (3, "index", "z", [], False)))
    assert read()["state"] == "running"
    made.emit(started(1))
    made.emit(job_info(1))
    made.emit(failed(1))
    content = read()  # a failure is written at once
    states = {(j["rule"], j["run"]): j["state"] for j in content["jobs"]}
    assert states == {("train_model", "a"): "failed", ("index", "z"): "done"}
    made.emit(record(msg="Exiting because a job execution failed. Look above for error messages", level=logging.ERROR))
    content = read()  # before onerror runs, which builds the report from it
    states = {(j["rule"], j["run"]): j["state"] for j in content["jobs"]}
    assert states[("evaluate_model", "a")] == "skipped"
    assert content["state"] == "failed"
    made.close()
    assert read()["counts"]["failed"] == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"cores": 2}, "2 jobs to do on 2 cores: "),
        ({"nodes": 100}, "2 jobs to do, up to 100 at once: "),  # to a cluster: its cores are not known
        ({"nodes": sys.maxsize}, "2 jobs to do: "),
    ],
)
def test_the_announcement_says_where_there_is_room(tmp_path, monkeypatch, given, said):
    made, stream = conductor(tmp_path, monkeypatch)
    made.emit(record(LogEvent.RESOURCES_INFO, "Provided …", **given))
    made.emit(record(LogEvent.RESOURCES_INFO, "Rules claiming more threads will be scaled down."))
    made.emit(plan_of((1, "train_model", "a", [], True), (2, "evaluate_model", "a", [1], True)))
    made.close()
    assert said in stream.getvalue()


def test_a_later_start_finds_what_was_running_interrupted(tmp_path, monkeypatch):
    first, _ = conductor(tmp_path, monkeypatch)
    first.emit(plan_of((1, "train_model", "a", [], True), (2, "train_model", "gone", [], True)))
    first.emit(started(1))
    first.emit(started(2))
    first.emit(job_info(1))
    first.emit(job_info(2, run="gone"))
    first.summary.flush(first.tracker, now=True)  # and killed: no close
    first._stop.set()
    second, _ = conductor(tmp_path, monkeypatch)
    second.emit(plan_of((1, "train_model", "a", [], True), (2, "train_model", "b", [], True)))
    jobs = {j["run"]: j for j in json.loads((tmp_path / "results" / "summary.json").read_text())["jobs"]}
    assert jobs["a"]["state"] == "interrupted"
    assert "gone" not in jobs  # it left the configuration
    second.close()


def test_nothing_to_do_keeps_what_is_known_of_jobs(tmp_path, monkeypatch):
    first, _ = conductor(tmp_path, monkeypatch)
    for event in (
        plan_of((1, "train_model", "a", [], True)),
        started(1),
        job_info(1),
        record(LogEvent.JOB_FINISHED, job_id=1, created=1042.0),
    ):
        first.emit(event)
    first.close()
    second, stream = conductor(tmp_path, monkeypatch)
    nothing = plan_of((1, "train_model", "a", [], False))
    plan = nothing.trainyard_plan
    second.emit(record(msg="Nothing to be done (all requested files are present and up to date).", trainyard_plan=plan))
    second.close()
    content = json.loads((tmp_path / "results" / "summary.json").read_text())
    assert content["state"] == "done"
    assert content["jobs"][0]["seconds"] == 42
    assert stream.getvalue().startswith("Nothing to do")


def test_failure_is_told_in_six_lines_of_80_columns(tmp_path, monkeypatch):
    made, stream = conductor(tmp_path, monkeypatch)
    log = tmp_path / "a.log"
    log.write_text("torch.OutOfMemoryError: x\nerror: " + "CUDA out of memory while training with a batch of sixteen samples " * 9 + "\n")
    made.emit(plan_of((1, "train_model", "a", [], True)))
    before = len(stream.getvalue().splitlines())
    for event in (started(1), job_info(1, log=[str(log)]), failed(1)):
        made.emit(event)
    lines = [line for line in stream.getvalue().splitlines()[before:] if " start " not in line]
    assert len(lines) <= 6
    assert "FAILED train_model kmidi/a  attempt 1" in lines[0]
    assert "CUDA out of memory" in lines[1]
    assert lines[-1].strip() == f"log: {log}"
    assert all(len(line) <= 80 for line in lines[:-1])
    made.close()


def test_quiet_still_tells_failures(tmp_path, monkeypatch):
    made, stream = conductor(tmp_path, monkeypatch, quiet=[SimpleNamespace(name="ALL")])
    for event in (
        plan_of((1, "train_model", "a", [], True), (2, "train_model", "b", [], True)),
        started(1),
        started(2),
        job_info(1),
        job_info(2, run="b"),
    ):
        made.emit(event)
    made.emit(record(LogEvent.JOB_FINISHED, job_id=2))
    assert stream.getvalue() == ""
    made.emit(failed(1))
    assert "FAILED train_model kmidi/a" in stream.getvalue()
    made.close()


def test_a_mistake_in_the_configuration_is_one_line_and_touches_nothing(tmp_path, monkeypatch):
    made, stream = conductor(tmp_path, monkeypatch)
    text = 'WorkflowError in file "/x/rules/common.smk", line 14:\n'
    text += "config: unknown key 'epohcs'; did you mean 'epochs'?\n  File \"/x/rules/common.smk\", line 14, in <module>"
    made.emit(record(LogEvent.ERROR, text, logging.ERROR, exception="WorkflowError"))
    made.close()
    assert stream.getvalue() == "error: config: unknown key 'epohcs'; did you mean 'epochs'?\n"
    assert not (tmp_path / "results").exists()


def test_other_errors_keep_their_place_and_chatter_is_left_out():
    error = 'WorkflowError in rule a in file "Snakefile", line 3:\nno such thing\n  File "Snakefile", line 3, in <module>'
    assert "rule a" in plain_message(record(LogEvent.ERROR, error, logging.ERROR))
    assert plain_message(record(msg="Select jobs to execute...")) is None
    assert plain_message(record(msg="An unheard of thing")) == "An unheard of thing"
    assert plain_message(record(msg="Select jobs to execute..."), verbose=True) is not None
    assert plain_message(record(msg="beware", level=logging.WARNING)) == "beware"


def test_names_are_folded():
    assert fold_names([f"als-fold{i}" for i in (1, 2, 3, 5)] + ["i3d"]) == ["als-fold1…3", "als-fold5", "i3d"]
    assert fold_names(["shard01", "shard02", "shard03"]) == ["shard01…03"]
