#!/usr/bin/env python
"""Train a small network on a patient table with folds over patients, in plain PyTorch.

Stands alone: numpy, pandas, scipy, scikit-learn and torch. Without --data a table is generated in the output folder.
Writes the weights of every fold and metrics.json: each figure on the pooled held-out folds, with a 95 % interval, a
trivial and a simple baseline (logistic regression), and how surely both are beaten.
"""

import argparse
import copy
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata
from sklearn.compose import ColumnTransformer, make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import nn

DRAWS = 1000


def generate_table(patients: int = 300, seed: int = 7) -> pd.DataFrame:
    """Visits of patients at risk of a stroke. Age has a U-shaped effect, pressure and glucose act together."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), rng.integers(1, 5, patients))
    level, smoking = rng.normal(size=(patients, 4))[who], rng.integers(3, size=patients)[who]
    age, pressure, glucose, bmi = (level + rng.normal(0, 0.3, level.shape)).T
    z = 1.2 * pressure * glucose + 0.8 * (age**2 - 1) + 0.6 * bmi + 0.7 * (smoking == 2)
    measured = {"age": 60 + 12 * age, "systolic_mmhg": 132 + 18 * pressure, "glucose_mg_dl": 104 + 24 * glucose, "bmi": 27 + 4 * bmi}
    table = pd.DataFrame(measured).round({"age": 0, "systolic_mmhg": 0, "glucose_mg_dl": 0, "bmi": 1})
    table = table.mask(rng.random(table.shape) < 0.05)
    table.insert(0, "patient_id", pd.Series(who).map("S{:04d}".format))
    table["smoking"] = np.array(["never", "former", "current"])[smoking]
    table["diagnosis"] = (rng.random(len(who)) < 1 / (1 + np.exp(-1.5 * z))).astype(int)
    return table


def read_table(path: Path, label: str, group: str) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Columns to predict from (words as text), labels (n,) of 0 and 1, patients (n,) numbered from 0."""
    table = pd.read_csv(path, encoding="utf-8-sig", dtype={group: str})
    for name, flag in ((label, "--label"), (group, "--group")):
        if name not in table:
            raise SystemExit(f"error: {path}: no column '{name}'; name it with {flag}")
    known = table.dropna(subset=[label, group]).reset_index(drop=True)
    if len(known) < len(table):
        print(f"{len(table) - len(known)} of {len(table)} rows lack {label} or {group} and are left out")
    y, classes = pd.factorize(known[label], sort=True)
    if len(classes) != 2:
        raise SystemExit(f"error: {path}: column '{label}' has {len(classes)} values, not two")
    x = known.drop(columns=[label, group])
    words = x.select_dtypes(exclude="number").columns
    return x.astype(dict.fromkeys(words, "str")).fillna(dict.fromkeys(words, "missing")), y, pd.factorize(known[group])[0]


def prepare_columns() -> ColumnTransformer:
    """Numbers filled with the median and scaled, with a column that says what was missing; words one-hot."""
    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    return make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), make_column_selector(dtype_exclude="number")),
    )


def train_network(x: torch.Tensor, y: torch.Tensor, inner_x: torch.Tensor, inner_y: torch.Tensor, args: argparse.Namespace) -> nn.Module:
    """Fit on x (n, width) and y (n,); keep the epoch that was best on the inner patients."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(x.shape[1], 64), nn.LayerNorm(64), nn.GELU(), nn.Dropout(0.4), nn.Linear(64, 1), nn.Flatten(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    loss_of = nn.BCEWithLogitsLoss()
    best, best_loss, best_epoch = copy.deepcopy(model.state_dict()), float("inf"), 0
    for epoch in range(1, args.epochs + 1):
        model.train()
        for rows in torch.randperm(len(x)).split(args.batch_size):
            optimizer.zero_grad()
            loss_of(model(x[rows]), y[rows]).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            loss = loss_of(model(inner_x), inner_y).item()
        if loss < best_loss:
            best, best_loss, best_epoch = copy.deepcopy(model.state_dict()), loss, epoch
        if args.verbose:
            print(f"  epoch {epoch}/{args.epochs} validation_loss {loss:.4f}", flush=True)
        if args.early_stopping and epoch - best_epoch >= 8:
            break
    model.load_state_dict(best)
    return model.eval().requires_grad_(False)


def auc(y: np.ndarray, score: np.ndarray) -> float:
    """Chance that a positive scores above a negative, ties half."""
    positive = int(y.sum())
    return float((rankdata(score)[y == 1].sum() - positive * (positive + 1) / 2) / (positive * (len(y) - positive)))


def accuracy(y: np.ndarray, score: np.ndarray) -> float:
    return float(((score > 0.5) == y).mean())


def drawn_rows(y: np.ndarray, patients: np.ndarray) -> Iterator[np.ndarray]:
    """All rows, then those of each bootstrap draw: whole patients with replacement, since visits of one resemble each other."""
    rng, groups, every = np.random.default_rng(0), patients.max() + 1, np.arange(len(y))
    yield every
    for _ in range(DRAWS):
        rows = np.repeat(every, np.bincount(rng.integers(groups, size=groups), minlength=groups)[patients])
        if 0 < y[rows].sum() < len(rows):
            yield rows


def interval(draws: np.ndarray) -> dict[str, float]:
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"ci_low": float(low), "ci_high": float(high)}


def report(part: str, y: np.ndarray, patients: np.ndarray, score: np.ndarray, majority: np.ndarray, simple: np.ndarray) -> list[dict]:
    """An entry of metrics.json for each metric. Model and baselines are drawn together, so that their differences pair."""
    measures = {"auc": (auc, "constant", np.zeros(len(y))), "accuracy": (accuracy, "majority", majority)}
    entries = []
    for name, (measure, trivial_name, trivial) in measures.items():
        figures = np.array([[measure(y[r], s[r]) for s in (score, trivial, simple)] for r in drawn_rows(y, patients)])
        value, draws = figures[0].tolist(), figures[1:]
        entry = {"part": part, "split": "test", "metric": name, "value": value[0], **interval(draws[:, 0]), "direction": "max",
                 "n": len(y), "groups": int(patients.max() + 1)}  # fmt: skip
        for i, (level, called) in enumerate((("trivial", trivial_name), ("simple", "logistic regression")), 1):
            gain = draws[:, 0] - draws[:, i]
            entry[level] = {"name": called, "value": value[i]}
            better = float((gain > 0).mean() + (gain == 0).mean() / 2)
            entry[f"vs_{level}"] = {"difference": value[0] - value[i], **interval(gain), "p_better": better}
        entries.append(entry)
    return entries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="CSV with a row a visit")
    parser.add_argument("--label", default="diagnosis", help="column to predict, of two values")
    parser.add_argument("--group", default="patient_id", help="column that names the patient")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--output-dir", type=Path, default=Path("output"))
    parser.add_argument("--early-stopping", action="store_true", help="stop a fold after 8 epochs without improvement")
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()

    torch.set_num_threads(1)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    if args.data is None:
        args.data = args.output_dir / "patients.csv"
        generate_table().to_csv(args.data, index=False)
    x, y, patients = read_table(args.data, args.label, args.group)
    score, simple, majority = np.zeros((3, len(y)))
    folds, apart = StratifiedGroupKFold(args.folds, shuffle=True, random_state=0), GroupShuffleSplit(1, test_size=1 / 6, random_state=0)
    for fold, (train, test) in enumerate(folds.split(x, y, patients), 1):
        # The epoch is chosen on patients of its own; the baseline has nothing to choose and learns from them too.
        fit, inner = (train[rows] for rows in next(apart.split(train, groups=patients[train])))
        columns = prepare_columns().fit(x.iloc[fit])
        fit_x, inner_x, test_x = (torch.from_numpy(columns.transform(x.iloc[rows]).clip(-6, 6)).float() for rows in (fit, inner, test))
        model = train_network(fit_x, torch.from_numpy(y[fit]).float(), inner_x, torch.from_numpy(y[inner]).float(), args)
        score[test] = model(test_x).sigmoid().numpy()
        logistic = make_pipeline(prepare_columns(), LogisticRegression(max_iter=1000, C=0.5)).fit(x.iloc[train], y[train])
        simple[test] = logistic.predict_proba(x.iloc[test])[:, 1]
        majority[test] = y[train].mean() > 0.5
        np.savez(args.output_dir / f"fold{fold}.npz", **{name: value.numpy() for name, value in model.state_dict().items()})
        print(f"fold {fold}: auc {auc(y[test], score[test]):.3f} accuracy {accuracy(y[test], score[test]):.3f}", flush=True)
    metrics = report(args.label, y, patients, score, majority, simple)
    (args.output_dir / "metrics.json").write_text(json.dumps({"metrics": metrics}, indent=1) + "\n", encoding="utf-8")
    for m in metrics:
        print(f"{m['metric']} {m['value']:.3f} [{m['ci_low']:.3f}, {m['ci_high']:.3f}], {m['trivial']['name']} "
              f"{m['trivial']['value']:.3f}, {m['simple']['name']} {m['simple']['value']:.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
