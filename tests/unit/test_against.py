"""Whether a model is better than others on the same rows: paired, and sure only where it is."""

import numpy as np
import pytest
from trainyard.data.predictions import PartOutput
from trainyard.report.against import against, mean_of


def tokens(nll, count):
    return PartOutput.tokens(np.asarray(nll, float), np.zeros(len(count), int), count)


def test_a_small_gain_that_every_group_has_is_sure_and_one_that_few_have_is_not():
    rng = np.random.default_rng(0)
    count = rng.integers(20, 60, 400)
    groups = [f"house{i % 40}" for i in range(400)]
    hard = count * rng.gamma(2, 0.5, 400)  # rows differ far more than models do
    ours = tokens(hard, count)
    everywhere = tokens(hard + 0.01 * count, count)
    noisy = tokens(hard + count * rng.normal(0.001, 0.5, 40)[np.arange(400) % 40], count)
    found = {row["name"]: row for row in against(ours, {"everywhere": everywhere, "noisy": noisy, "itself": ours}, groups)}
    assert found["everywhere"]["difference"] == pytest.approx(0.01)
    assert 0 < found["everywhere"]["low"] <= 0.01 + 1e-9 and found["everywhere"]["groups"] == 40
    assert found["noisy"]["low"] < 0 < found["noisy"]["high"]
    assert found["itself"]["difference"] == found["itself"]["low"] == found["itself"]["high"] == 0
    # The other way round it is as surely worse.
    assert against(everywhere, {"ours": ours}, groups)[0]["high"] < 0


def test_tokens_count_alike_whatever_row_they_are_in():
    ours, other = tokens([10, 10], np.array([10, 90])), tokens([20, 10], np.array([10, 90]))
    assert against(ours, {"other": other}, ["a", "b"])[0]["difference"] == pytest.approx(10 / 100)
    mean = mean_of([ours, other])
    assert mean.nll.tolist() == [15, 10] and against(ours, {"mean": mean}, ["a", "b"])[0]["difference"] == pytest.approx(0.05)


def test_one_group_has_no_interval():
    row = against(tokens([1, 2], np.array([3, 3])), {"x": tokens([2, 2], np.array([3, 3]))}, ["a", "a"])[0]
    assert row["difference"] == pytest.approx(1 / 6) and row["low"] is None is row["high"]
    assert against(tokens([1], np.array([3])), {}, ["a"]) == []
