"""Preflight of data: labels, values, targets and leaks, and each kind of trouble among them."""

from pathlib import Path

import numpy as np
import pytest
from preflight_packs import check, examine, packs, write
from trainyard.train import data_checks


@pytest.mark.parametrize(
    ("labels", "verdict", "words"),
    [
        ([0] * 40, "fail", "every training sample is 'no'"),
        ([-1] * 40, "fail", "no training sample has a label"),
        ([0] * 38 + [1, 1], "warn", "2 to 38"),
        ([2, 0] * 20, "fail", "beyond the 2 classes"),
    ],
)
def test_labels(tmp_path: Path, labels: list[int], verdict: str, words: str) -> None:
    found = check(examine(packs(tmp_path, train={"labels": labels}), tmp_path), "labels")
    assert found["verdict"] == verdict and words in found["value"]


@pytest.mark.parametrize(
    ("classes", "labels", "verdict", "words"),
    [
        ([f"{i}.5" for i in range(30)], [i % 30 for i in range(40)], "fail", "30 classes among 40 training samples"),
        ([f"{i}" for i in range(21)], [i % 21 for i in range(60)], "warn", "21 different numbers"),
        (["no", "No ", "1", "1.0"], [i % 4 for i in range(40)], "warn", "no, No , 1, 1.0 differ in spelling only"),
    ],
)
def test_labels_that_are_amounts_or_spelled_in_two_ways(
    tmp_path: Path, classes: list[str], labels: list[int], verdict: str, words: str
) -> None:
    train = {"ids": [f"t{i}" for i in range(len(labels))], "groups": [f"g{i}" for i in range(len(labels))], "labels": labels}
    held = {"classes": classes}
    found = examine(packs(tmp_path, train={**train, **held}, validation=held, test=held), tmp_path)["checks"]
    assert any(words in c["value"] and c["verdict"] == verdict for c in found), found


def test_what_is_odd_about_columns_is_said(tmp_path: Path) -> None:
    meta = {"ignored": {"id": "counts the rows"}, "odd": {"a": "always '1'"}}
    found = examine(packs(tmp_path, train={"meta": meta}), tmp_path)["checks"]
    first, second = (c for c in found if c["check"] == "columns")
    assert first["verdict"] == "ok" and first["value"] == "2 of numbers, 0 of categories; not used: id (counts the rows)"
    assert second["verdict"] == "warn" and second["value"] == "a: always '1'"


def test_samples_without_a_label_are_counted(tmp_path: Path) -> None:
    found = check(examine(packs(tmp_path, train={"labels": [-1, 0, 1, 0] * 10}), tmp_path), "unlabelled")
    assert found["verdict"] == "warn" and "10 of 40 train samples" in found["value"]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_split_without_labels_fails_and_one_without_a_class_warns(tmp_path: Path, split: str) -> None:
    report = examine(packs(tmp_path, **{split: {"labels": [-1] * 10}}), tmp_path)
    assert report["verdict"] == "fail" and f"no {split} sample has a label" in check(report, "labels")["value"]
    report = examine(packs(tmp_path, **{split: {"labels": [0] * 10}}), tmp_path)
    assert report["verdict"] == "warn" and f"no {split} sample of yes" in check(report, "classes")["value"]


def test_a_class_that_training_lacks_is_named(tmp_path: Path) -> None:
    three = {"classes": ("no", "yes", "rare")}
    files = packs(tmp_path, train=three, validation=three, test={**three, "labels": [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]})
    found = check(examine(files, tmp_path), "classes")
    assert found["verdict"] == "warn" and "no training sample of rare" in found["value"]


def test_leaked_groups_and_samples_fail_and_unknown_groups_warn(tmp_path: Path) -> None:
    shared = [f"g-train{i}" for i in range(10)]
    report = examine(packs(tmp_path, test={"groups": shared}), tmp_path)
    assert report["verdict"] == "fail" and "10 groups lie in train and test, such as 'g-train0'" in check(report, "leaks")["value"]
    ids = {s: [f"{s}{i}" for i in range(n)] for s, n in (("train", 40), ("validation", 10), ("test", 10))}
    report = examine(packs(tmp_path, **{s: {"groups": names} for s, names in ids.items()}), tmp_path)
    assert report["verdict"] == "warn" and check(report, "groups")["value"] == "unknown"


def test_values_that_are_no_numbers_fail(tmp_path: Path) -> None:
    scores = np.ones((40, 2), np.float32)
    held = {"scores": np.ones((10, 2), np.float32)}
    files = packs(tmp_path, train={"scores": scores}, validation=held, test=held)
    assert "never change" in check(examine(files, tmp_path), "targets")["value"]
    scores[3, 1] = np.nan
    files = packs(tmp_path, train={"scores": scores}, validation=held, test=held)
    found = check(examine(files, tmp_path), "values")
    assert found["verdict"] == "fail" and "scores of train" in found["value"]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_one_value_that_is_no_number_is_found_wherever_it_is(tmp_path: Path, split: str, monkeypatch) -> None:
    sizes = {"train": 5000, "validation": 10, "test": 10}
    keys = {s: {"ids": [f"{s}{i}" for i in range(n)], "groups": [f"{s}{i}g" for i in range(n)]} for s, n in sizes.items()}
    for s, n in sizes.items():
        keys[s] |= {"labels": [i % 2 for i in range(n)], "scores": np.random.default_rng(n).normal(size=(n, 2)).astype(np.float32)}
    keys[split]["scores"][sizes[split] // 3, 1] = np.nan
    found = check(examine(packs(tmp_path, **keys), tmp_path), "values")
    assert found["verdict"] == "fail" and found["value"] == f"NaN or infinity in scores of {split}"
    keys[split]["scores"][sizes[split] // 3, 1] = 0
    assert check(examine(packs(tmp_path, **keys), tmp_path), "values")["value"] == "all 5,020 samples hold finite numbers"
    monkeypatch.setattr(data_checks, "BLOCK", 1000)
    monkeypatch.setattr(data_checks, "LOOKED_AT", 20_000)
    assert check(examine(packs(tmp_path, **keys), tmp_path), "values")["value"] == "25% of the 5,020 samples hold finite numbers"


def test_infinity_is_no_missing_value(tmp_path: Path) -> None:
    values = np.ones((10, 2))
    values[3, 1] = np.nan
    assert check(examine(packs(tmp_path, test={"values": values}), tmp_path), "values")["verdict"] == "ok"
    values[3, 1] = np.inf
    found = check(examine(packs(tmp_path, test={"values": values}), tmp_path), "values")
    assert found["verdict"] == "fail" and found["value"] == "NaN or infinity in numeric of test"


def test_folds_are_checked_in_their_one_pack(tmp_path: Path) -> None:
    ids = [f"s{i}" for i in range(60)]
    groups = [f"g{i // 2}" for i in range(60)]
    fold = [np.int16(1 + i // 2 % 3) for i in range(60)]
    inner = [np.uint8(i // 2 % 4 == 0) for i in range(60)]
    path = write(tmp_path / "all.safetensors", ids, groups, [i % 2 for i in range(60)], fold=fold, inner=inner)
    files = dict.fromkeys(("train", "validation", "test"), path)
    assert examine(files, tmp_path, fold=2)["verdict"] == "ok"
    assert examine(files, tmp_path, fold=0)["verdict"] == "ok"
    fold[7] = np.int16(1 + fold[7] % 3)
    files = dict.fromkeys(files, write(tmp_path / "all.safetensors", ids, groups, [i % 2 for i in range(60)], fold=fold, inner=inner))
    assert any("another fold" in c["value"] for c in examine(files, tmp_path, fold=1)["checks"])
