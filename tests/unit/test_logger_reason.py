"""The line that matters, from the logs that programs really leave behind."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snakemake_logger_plugin_trainyard.reason import exit_status, meaningful_line, newest_log, read_tail, reason_of

TRACEBACK = """\
loading
Traceback (most recent call last):
  File "/home/a/train_model.py", line 12, in <module>
    main()
  File "/home/a/loop.py", line 40, in main
    loss = values["loss"]
KeyError: 'loss'
"""
CHAINED = """\
Traceback (most recent call last):
  File "a.py", line 1, in f
ValueError: inner

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "b.py", line 2, in g
RuntimeError: the outer one is what ended it
"""


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("epoch 1\nerror: the pack holds no sample of class 'sad'\n", "error: the pack holds no sample of class 'sad'"),
        (TRACEBACK, "KeyError: 'loss' (loop.py:40)"),
        (CHAINED, "RuntimeError: the outer one is what ended it"),
        (TRACEBACK + "error: told after the traceback\n", "error: told after the traceback"),
        (
            'error: an earlier one\nretrying\nTraceback (most recent call last):\n  File "x.py", line 3, in f\nOSError: disk gone\n',
            "OSError: disk gone",
        ),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB\n", "torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB"),
        ("train.py: error: unrecognized arguments: --foo\n", "train.py: error: unrecognized arguments: --foo"),
        (
            "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT x DUE TO TIME LIMIT ***\n",
            "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT x DUE TO TIME LIMIT ***",
        ),
        ("working\nKilled\n", "Killed"),
        ("training error 0.5, validation error 0.6\n", None),
        ("", None),
    ],
)
def test_the_line_that_matters(log, expected):
    assert meaningful_line(log.splitlines()) == expected


def test_a_message_on_the_next_line_is_taken_along():
    log = 'Traceback (most recent call last):\n  File "m.py", line 1, in f\nValidationError:\nwidth must be positive\n'
    assert meaningful_line(log.splitlines()) == "ValidationError: width must be positive"


def test_exit_status_speaks_where_the_log_is_silent(tmp_path):
    log = tmp_path / "x.log"
    log.write_text("")
    assert "out of memory" in reason_of([log], "SIGKILL")
    assert "segmentation fault" in reason_of([log], -11)
    assert reason_of([log], 3) == "exit status 3; its log is empty"
    log.write_text("step 10\nstep 11\n")
    assert reason_of([log], 3) == "exit status 3; last line: step 11"
    assert reason_of([tmp_path / "absent.log"]) == "no reason found: its log is empty or missing"


def test_killed_from_outside_is_not_blamed_on_an_old_error(tmp_path):
    log = tmp_path / "x.log"
    log.write_text("error: could not reach the tracker, going on\n" + "step\n" * 10)
    assert reason_of([log], "SIGKILL").startswith("killed from outside")


def test_the_first_log_that_says_something_wins(tmp_path):
    (tmp_path / "empty.log").write_text("\n")
    (tmp_path / "said.log").write_text("error: why\n")
    assert reason_of([tmp_path / "empty.log", tmp_path / "said.log"], 1) == "error: why"


def test_status_from_the_words_of_snakemake():
    assert exit_status("Command 'x' returned non-zero exit status 137.") == 137
    assert exit_status("Command 'x' died with <Signals.SIGKILL: 9>.") == "SIGKILL"
    assert exit_status("something else") is None


def test_progress_bars_and_colours_are_taken_out(tmp_path):
    log = tmp_path / "x.log"
    log.write_bytes(b"10%\r50%\r100%\n\x1b[31merror: red\x1b[0m\n\xff\xfe\n")
    assert read_tail(log)[:2] == ["100%", "error: red"]


def test_long_logs_are_read_from_the_end(tmp_path):
    log = tmp_path / "x.log"
    log.write_text("error: old\n" + "filler line\n" * 20000 + "error: new\n")
    assert reason_of([log], 1) == "error: new"


def test_newest_attempt(tmp_path):
    base = tmp_path / "run.log"
    assert newest_log(base) == str(base)
    for name in ("run.20260101T000000-5.log", "run.20260102T000000-6.log", "run-2.20270101T000000-6.log"):
        (tmp_path / name).write_text(name)
    assert newest_log(base) == str(tmp_path / "run.20260102T000000-6.log")
    assert newest_log(base, since=(tmp_path / "run.20260102T000000-6.log").stat().st_mtime + 3600) == str(base)


@given(st.lists(st.text(max_size=40), max_size=20))
def test_any_text_is_survived_and_an_error_at_the_end_is_found(lines):
    clean = [line for text in lines for line in text.splitlines()]
    meaningful_line(clean)
    assert meaningful_line([*clean, "", "error: the end"]) == "error: the end" or any("Traceback" in line for line in clean)
