#!/usr/bin/env python
"""Train logistic regression, a random forest and boosted trees on a patient table, with folds over patients.

Stands alone: numpy and scikit-learn. Without --data a table is generated in the output folder. Writes metrics.json:
the area under the ROC curve on the held-out patients of every fold, beside the trivial 0.5 of a constant score.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np


def generate_table(path: Path, patients: int = 300, seed: int = 7) -> None:
    """Visits of patients at risk of a stroke. Age has a U-shaped effect, pressure and glucose act together."""
    rng = np.random.default_rng(seed)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient_id", "age", "systolic_mmhg", "glucose_mg_dl", "bmi", "smoking", "diagnosis"])
        for patient in range(patients):
            level, smoking = rng.normal(size=4), rng.integers(3)
            for _ in range(rng.integers(1, 5)):
                age, pressure, glucose, bmi = level + rng.normal(0, 0.3, 4)
                z = 1.2 * pressure * glucose + 0.8 * (age**2 - 1) + 0.6 * bmi + 0.7 * (smoking == 2)
                ill = rng.random() < 1 / (1 + np.exp(-1.5 * z))
                cells = [f"{60 + 12 * age:.0f}", f"{132 + 18 * pressure:.0f}", f"{104 + 24 * glucose:.0f}", f"{27 + 4 * bmi:.1f}"]
                cells = ["" if rng.random() < 0.05 else cell for cell in cells]
                writer.writerow([f"S{patient:04d}", *cells, ("never", "former", "current")[smoking], int(ill)])


def read_table(path: Path, label: str, group: str):
    """Numbers (n, d) with NaN, words (n, c), labels (n,) of 0 and 1, patients (n,)."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or label not in rows[0]:
        raise SystemExit(f"error: {path}: no rows, or no column '{label}'; name it with --label")
    classes = sorted({row[label] for row in rows})
    if len(classes) != 2:
        raise SystemExit(f"error: {path}: column '{label}' has {len(classes)} values, not two")
    columns = [name for name in rows[0] if name not in (label, group)]
    numeric = [name for name in columns if all(is_number(row[name]) for row in rows)]
    numbers = np.array([[float(row[name] or "nan") for name in numeric] for row in rows]).reshape(len(rows), -1)
    words = np.array([[row[name] for name in columns if name not in numeric] for row in rows], dtype=object).reshape(len(rows), -1)
    patients = np.array([row.get(group, str(i)) for i, row in enumerate(rows)])
    return numbers, words, np.array([classes.index(row[label]) for row in rows]), patients


def is_number(text: str) -> bool:
    try:
        float(text or "nan")
    except ValueError:
        return False
    return True


def build_models(rounds: int) -> dict:
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    return {
        "logistic_regression": LogisticRegression(max_iter=1000, C=0.5),
        "random_forest": RandomForestClassifier(100, min_samples_leaf=5, random_state=0),
        "boosted_trees": HistGradientBoostingClassifier(max_iter=rounds, learning_rate=0.1, max_leaf_nodes=8, random_state=0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="CSV with a row a visit")
    parser.add_argument("--label", default="diagnosis", help="column to predict, of two values")
    parser.add_argument("--group", default="patient_id", help="column that names the patient")
    parser.add_argument("--epochs", type=int, default=50, help="rounds of boosting")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32, help="taken for the sake of a common command line; no model here has batches")
    parser.add_argument("--output-dir", type=Path, default=Path("output"))
    parser.add_argument("--early-stopping", action="store_true", help="stop boosting when an inner held-out part gets worse")
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()

    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    args.output_dir.mkdir(parents=True, exist_ok=True)
    if args.data is None:
        args.data = args.output_dir / "patients.csv"
        generate_table(args.data)
    numbers, words, y, patients = read_table(args.data, args.label, args.group)
    x = np.concatenate([numbers.astype(object), words], axis=1)
    left, right = slice(0, numbers.shape[1]), slice(numbers.shape[1], x.shape[1])
    results: dict[str, list[float]] = {}
    for fold, (train, test) in enumerate(GroupKFold(args.folds, shuffle=True, random_state=0).split(x, y, patients), 1):
        for name, model in build_models(args.epochs).items():
            if args.early_stopping and name == "boosted_trees":
                model.set_params(early_stopping=True, n_iter_no_change=5)
            prepare = make_column_transformer(
                (make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()), left),
                (OneHotEncoder(handle_unknown="ignore", sparse_output=False), right),
            )
            pipeline = make_pipeline(prepare, model).fit(x[train], y[train])
            auc = roc_auc_score(y[test], pipeline.predict_proba(x[test])[:, 1])
            results.setdefault(name, []).append(float(auc))
            if args.verbose:
                print(f"fold {fold} {name} auc {auc:.3f}", flush=True)
    metrics = [
        {"part": name, "split": "test", "metric": "auc", "value": float(np.mean(values)), "direction": "max", "n": len(y),
         "trivial": {"name": "constant", "value": 0.5}}
        for name, values in results.items()
    ]  # fmt: skip
    metrics.sort(key=lambda m: -m["value"])
    (args.output_dir / "metrics.json").write_text(json.dumps({"metrics": metrics}, indent=1) + "\n", encoding="utf-8")
    for name, values in results.items():
        print(f"{name}: auc {np.mean(values):.3f} ± {np.std(values):.3f} over {args.folds} folds")


if __name__ == "__main__":
    main()
