"""Cluster bootstrap: honest about groups, paired, seeded."""

import numpy as np
import pytest
from scipy.stats import t as student
from trainyard.report.intervals import draw, group_weights, interval, normal_probability, t_interval, t_probability
from trainyard.report.metrics import PartData, metrics_of


def shares(groups: int, per_group: int, rate: np.ndarray) -> PartData:
    n = groups * per_group
    group = np.repeat(np.arange(groups), per_group)
    zero = np.zeros(0)
    return PartData("share", np.arange(n), group, groups, zero, zero, np.arange(0), np.zeros(n), rate[group].astype(float), np.ones(n))


SHARE = metrics_of("share")[0].estimator


def test_weights_draw_whole_groups_and_repeat():
    blocks = np.concatenate(list(group_weights(40, 500, seed=1)))
    assert blocks.shape == (500, 40) and (blocks.sum(1) == 40).all() and blocks.mean() == 1
    assert blocks.var(0).mean() == pytest.approx(1 - 1 / 40, abs=0.1), "multinomial"
    np.testing.assert_array_equal(blocks, np.concatenate(list(group_weights(40, 500, seed=1))))
    assert not np.array_equal(blocks, np.concatenate(list(group_weights(40, 500, seed=2))))


def test_the_error_is_that_of_groups_not_of_samples():
    rate = np.random.default_rng(0).integers(0, 2, 60)
    one, many = (interval(*(x[0] if x.ndim == 1 else x[:, 0] for x in draw([SHARE(shares(60, k, rate), None)], 60))) for k in (1, 50))
    assert one.sd == pytest.approx(np.sqrt(one.value * (1 - one.value) / 60), rel=0.06)
    assert many.sd == pytest.approx(one.sd, rel=1e-6), "fifty copies of each sample are no new evidence"
    assert many.low < many.value < many.high


def test_paired_differences_are_surer_than_separate_intervals():
    rng = np.random.default_rng(3)
    base = rng.integers(0, 2, 200)
    better = base.copy()
    better[np.flatnonzero(base == 0)[:12]] = 1
    values, draws = draw([SHARE(shares(200, 1, better), None), SHARE(shares(200, 1, base), None)], 200)
    gain = interval(values[0] - values[1], draws[:, 0] - draws[:, 1], difference=True)
    own = interval(values[0], draws[:, 0])
    assert gain.value == pytest.approx(0.06) and gain.low > 0 and gain.p_better > 0.99
    assert own.low < values[1], "the intervals alone would overlap"
    same = interval(0.0, draws[:, 0] - draws[:, 0], difference=True)
    assert same.p_better == 0.5


def test_one_group_has_no_interval():
    values, draws = draw([SHARE(shares(1, 30, np.array([1])), None)], 1)
    found = interval(values[0], draws[:, 0])
    assert (found.value, found.low, found.high, found.sd) == (1.0, None, None, None)


def test_draws_without_the_figure_are_left_out_unless_they_are_many():
    known = np.linspace(0, 1, 1000)
    assert interval(0.5, np.concatenate([known, np.full(50, np.nan)])).low == pytest.approx(0.025, abs=0.002)
    assert interval(0.5, np.concatenate([known, np.full(900, np.nan)])).low is None


def test_t_interval_is_scipys():
    values = [0.81, 0.78, 0.84, 0.8, 0.77]
    low, high = student.interval(0.95, 4, np.mean(values), np.std(values, ddof=1) / 5**0.5)
    assert t_interval(values) == pytest.approx((low, high))
    assert t_interval([0.8]) is None
    assert t_probability(1.3, 4) == pytest.approx(student.cdf(1.3, 4)) and normal_probability(1.959964) == pytest.approx(0.975, abs=1e-6)
