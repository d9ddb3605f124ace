"""Every metric equals scikit-learn's, plain and under bootstrap weights."""

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st
from trainyard.report.metrics import METRICS, Metric, PartData, bounds_of, direction_of, metrics_of


def part(kind: str, n: int, groups: int, seed: int, classes: int = 2, per_item: int = 1) -> PartData:
    rng = np.random.default_rng(seed)
    group = np.concatenate([np.arange(groups), rng.integers(0, groups, n - groups)])
    owner, size = np.arange(n), n
    if kind == "class":
        target = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
        prediction = np.round(rng.dirichlet(np.ones(classes), n) + 0.3 * np.eye(classes)[target], 1) + 0.01  # rounded: ties
        prediction /= prediction.sum(1, keepdims=True)
    else:
        owner = np.repeat(np.arange(n), per_item)
        size = n * per_item
        target = rng.normal(3, 2, size)
        prediction = target + rng.normal(0, 1, size)
    count = rng.integers(1, 9, n).astype(float)
    return PartData(
        kind, np.arange(n).astype(str), group, groups, target, prediction, owner, rng.exponential(2, n), np.floor(count / 2), count
    )


def named(name: str, kind: str) -> Metric:
    return next(m for m in metrics_of(kind) if m.name == name)


def weights_of(data: PartData, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    some = rng.multinomial(data.groups, np.full(data.groups, 1 / data.groups), 5).astype(float)
    return np.concatenate([np.ones((1, data.groups)), some])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(12, 80))
def test_class_metrics(seed, classes, n):
    data = part("class", n, 6, seed, classes)
    weights = weights_of(data, seed)
    theirs = {
        "accuracy": lambda w: sk.accuracy_score(data.target, data.prediction.argmax(1), sample_weight=w),
        "log_loss": lambda w: sk.log_loss(data.target, data.prediction, labels=range(classes), sample_weight=w),
        "auc": lambda w: sk.roc_auc_score(data.target, data.prediction[:, 1], sample_weight=w),
    }
    for name, reference in theirs.items():
        estimate = named(name, "class").estimator(data, None)
        if name == "auc" and classes > 2:
            assert estimate is None
            continue
        for got, w in zip(estimate(weights), weights):
            per_item = w[data.group]
            if name == "auc" and len(np.unique(data.target[per_item > 0])) < 2:
                assert np.isnan(got)
                continue
            assert got == pytest.approx(reference(per_item), abs=1e-9), name
    f1 = named("macro_f1", "class").estimator(data, None)(weights)
    for got, w in zip(f1, weights):
        keep = w[data.group] > 0
        expected = sk.f1_score(
            data.target[keep], data.prediction.argmax(1)[keep], average="macro", sample_weight=w[data.group][keep], zero_division=0
        )
        assert got == pytest.approx(expected, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_value_metrics(seed, per_item):
    data = part("values", 40, 7, seed, per_item=per_item)
    weights = weights_of(data, seed)
    theirs = {"rmse": sk.root_mean_squared_error, "mae": sk.mean_absolute_error, "r2": sk.r2_score}
    for name, reference in theirs.items():
        for got, w in zip(named(name, "values").estimator(data, None)(weights), weights):
            expected = reference(data.target, data.prediction, sample_weight=w[data.group[data.owner]])
            assert got == pytest.approx(expected, abs=1e-9), name


def test_r2_against_the_training_mean():
    data = part("values", 40, 7, 1)
    ones = np.ones((1, 7))
    estimator = named("r2", "values").estimator
    assert estimator(data, data.prediction)(ones)[0] == pytest.approx(0), "the reference itself explains nothing"
    assert estimator(data, np.full(40, 3.0))(ones)[0] > 0
    shifted = PartData(**{**vars(data), "target": data.target + 1e6, "prediction": data.prediction + 1e6})
    assert estimator(shifted, None)(ones)[0] == pytest.approx(estimator(data, None)(ones)[0], abs=1e-6)


def test_token_metrics_are_by_token_not_by_item():
    data = part("tokens", 30, 5, 2)
    ones = np.ones((1, 5))
    assert named("nll", "tokens").estimator(data, None)(ones)[0] == pytest.approx(data.nll.sum() / data.count.sum())
    assert named("accuracy", "tokens").estimator(data, None)(ones)[0] == pytest.approx(data.correct.sum() / data.count.sum())
    assert named("share", "share").estimator(data, None)(ones)[0] == pytest.approx(data.correct.sum() / data.count.sum())


def test_every_metric_is_declared_once():
    keys = [(m.kind, m.name) for m in METRICS]
    assert len(set(keys)) == len(keys) and {m.direction for m in METRICS} == {"max", "min"}
    assert direction_of("auc") == "max" and direction_of("rmse") == "min" and direction_of("wizardry") is None
    assert bounds_of("auc") == (0, 1) and bounds_of("r2") == (None, 1)
