"""What a terminal really shows: the escape codes are played back on a small screen of our own."""

import io
import re
import time

import pytest
from snakemake_logger_plugin_trainyard.heartbeat import Heartbeat
from snakemake_logger_plugin_trainyard.jobs import Job, Notice
from snakemake_logger_plugin_trainyard.screen import Screen
from snakemake_logger_plugin_trainyard.terminal import Terminal


class Tty(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def played(text: str) -> list[str]:
    """The lines on a screen after a text with cursor-up, carriage return and erase-below."""
    rows, row = [""], 0
    for token in re.findall(r"\x1b\[\d*[A-Za-z]|\x1b\[[\d;]*m|\r|\n|[^\x1b\r\n]+", text):
        if match := re.fullmatch(r"\x1b\[(\d+)A", token):
            row = max(0, row - int(match[1]))
        elif token == "\x1b[J":
            del rows[row:]
            rows.append("")
        elif token == "\n":
            row += 1
            rows += [""] * (row + 1 - len(rows))
        elif token != "\r" and not token.endswith("m"):
            rows[row] += token
    return [line for line in rows if line]


@pytest.fixture
def tty(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    return Tty()


class Jobs:
    """A tracker's face."""

    def __init__(self, *running, done=0, total=100, failed=0):
        self.running, self.jobs = list(running), {1: None}
        self._counts = {"done": done, "total": total, "failed": failed}

    def counts(self):
        return self._counts

    def by_state(self, *_):
        return self.running


def job(run, suite="kmidi", rule="train_model"):
    return Job(1, rule, {"suite": suite, "run": run}, state="running", attempts=1, started=time.time() - 30)


def beat(**values):
    return Heartbeat("kmidi", "a", {"epoch": 3, "epochs": 10, "loss": 1.23456, **values}, time.time())


def test_redrawing_leaves_no_trace_and_lines_stay(tty):
    terminal = Terminal(tty)
    terminal.draw(["one", "two", "three"])
    terminal.lines(["stays"])
    terminal.draw(["four"])
    terminal.draw(["five", "six"])
    assert played(tty.getvalue()) == ["stays", "five", "six"]
    terminal.clear()
    assert played(tty.getvalue()) == ["stays"]


def test_a_narrower_window_is_cleared_whole(tty, monkeypatch):
    terminal = Terminal(tty)
    terminal.draw(["x" * 70])
    monkeypatch.setenv("COLUMNS", "40")  # the terminal wrapped it to two rows
    terminal.draw(["y"])
    assert "\x1b[2A" in tty.getvalue()


def test_no_color_no_terminal_no_unicode(tty, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert Terminal(tty).paint("x", "red") == "x"
    monkeypatch.delenv("NO_COLOR")
    assert Terminal(tty).paint("x", "red") == "\x1b[31mx\x1b[0m"
    assert Terminal(tty, color=False).paint("x", "red") == "x"
    pipe = io.StringIO()
    terminal = Terminal(pipe)
    terminal.draw(["never"])
    terminal.lines([terminal.paint("3–5 min → ü", "red")])
    assert pipe.getvalue() == "3-5 min -> ?\n"
    monkeypatch.setenv("TERM", "dumb")
    assert not Terminal(tty).live


def test_a_closed_pipe_ends_the_display_not_the_run():
    pipe = io.StringIO()
    terminal = Terminal(pipe)
    pipe.close()
    terminal.lines(["x"])
    terminal.lines(["y"])
    assert terminal.broken


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_every_line_fits_and_says_how_far_a_training_is(tty, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    jobs = Jobs(*[job(f"melody_transformer-fold{i}-seed2") for i in range(20)], done=37, failed=2)
    screen = Screen(Terminal(tty), jobs, lambda: None, lambda _: beat(eta_seconds=100, eta_low=80, eta_high=120))
    screen.tick()
    lines = played(tty.getvalue())
    assert all(len(line) < min(columns, 80) for line in lines)
    assert "37/100 done, 2 failed" in lines[0]
    assert len(lines) <= 10
    if columns >= 60:
        assert "epoch 3/10  loss 1.23  1.3–2 min left" in lines[1]
    assert "more" in lines[-1]


def test_a_small_window_gets_fewer_lines(tty, monkeypatch):
    monkeypatch.setenv("LINES", "6")
    screen = Screen(Terminal(tty), Jobs(*[job(f"r{i}") for i in range(20)]), lambda: None, lambda _: None)
    screen.tick()
    assert len(played(tty.getvalue())) <= 5


def test_after_the_end_nothing_is_drawn(tty):
    screen = Screen(Terminal(tty), Jobs(job("a")), lambda: None, lambda _: None)
    screen.tick()
    screen.show(Notice("over"))
    screen.tick()
    assert played(tty.getvalue()) == []


def test_a_log_gets_a_pulse_but_not_too_often():
    pipe = io.StringIO()
    screen = Screen(
        Terminal(pipe), Jobs(job("a"), job("b"), job("c"), done=5), lambda: None, lambda j: beat() if j.run == "a" else None, every=30
    )
    screen.tick()
    assert pipe.getvalue() == ""
    screen.told -= 31
    screen.tick()
    screen.tick()
    (line,) = pipe.getvalue().splitlines()
    assert "run    5/100 done; kmidi/a epoch 3/10  loss 1.23; train_model kmidi/b; 1 more run" in line


def test_silence_is_told():
    silent = Heartbeat("kmidi", "a", {"epoch": 1, "epochs": 2, "eta_seconds": 5}, time.time() - 600)
    assert "no news for 10 min" in silent.words()
    assert "nearly done" in Heartbeat("kmidi", "a", {"eta_seconds": 1}, time.time() - 5).words()


def test_an_error_of_the_workflow_comes_with_what_to_do():
    pipe = io.StringIO()
    screen = Screen(Terminal(pipe), Jobs(), lambda: None, lambda _: None)
    screen.show(Notice("message", text="OSError: [Errno 28] No space left on device", level=40))
    said, advice = pipe.getvalue().splitlines()
    assert "No space left" in said and advice.startswith("  try: free some room")
