"""Numbers in words, the time axis of the jobs, and ticks."""

import pytest
from trainyard.report import numbers
from trainyard.report.charts.gantt import _lanes
from trainyard.report.charts.svg import Scale
from trainyard.report.collect import read_jobs
from trainyard.report.views.whole import Job


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.969, "0.969"),
        (0.0132, "0.0132"),
        (82.14, "82.1"),
        (1234.5, "1,234"),
        (-0.0100, "−0.0100"),
        (0, "0.00"),
        (None, "–"),
        (-1e-9, "0.000000"),
    ],
)
def test_numbers_have_three_digits_and_a_true_minus(value, said):
    assert numbers.num(value) == said


def test_certainty_is_never_rounded_to_one():
    assert (
        numbers.percent(1.0) == ">\u00a099.9\u00a0%"
        and numbers.percent(0.0) == "<\u00a00.1\u00a0%"
        and numbers.percent(0.65) == "65\u00a0%"
    )


def test_lanes_never_overlap_and_are_as_few_as_ran_at_once():
    jobs = [Job("r", "s", str(i), "done", True, start, start + 2.0) for i, start in enumerate((0.0, 1.0, 2.0, 3.0, 3.5))]
    lanes = _lanes(jobs)
    assert len(lanes) == 3 and all(a.end <= b.start for lane in lanes for a, b in zip(lane, lane[1:]))


def test_idle_time_between_two_calls_is_cut_out():
    jobs, idle = read_jobs(
        [
            {"rule": "a", "state": "done", "started": "2026-01-25T10:00:00+00:00", "finished": "2026-01-25T10:01:00+00:00"},
            {"rule": "b", "state": "done", "started": "2026-01-26T10:00:00+00:00", "finished": "2026-01-26T10:00:30+00:00"},
            {"rule": "c", "state": "running", "started": "2026-01-26T10:00:00+00:00", "finished": None},
        ]
    )
    assert [j.timed for j in jobs] == [True, True, False]
    assert [(j.rule, j.start, j.end) for j in jobs] == [("a", 0, 60), ("b", 60, 90), ("c", 0, 0)]
    assert idle == ((60, 24 * 3600 - 60),)


def test_ticks_are_round_and_inside():
    values = [v for v, _ in Scale(0.13, 0.97, 0, 100).ticks(4)]
    assert values == pytest.approx([0.25, 0.5, 0.75])
    assert Scale(1, 1, 0, 1).ticks() == []
