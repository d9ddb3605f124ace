#!/usr/bin/env python
"""Train a small network on a patient table with folds over patients, in plain PyTorch.

Stands alone: numpy and torch, and the table reading of train_baseline_models.py beside it. Without --data a table is
generated in the output folder. Writes metrics.json and the weights of every fold.
"""

import argparse
import copy
import json
from pathlib import Path

import numpy as np
from train_baseline_models import generate_table, read_table


def prepare(numbers, words, train):
    """Inputs (n, width) float32; medians, means and deviations come from the training rows, categories are one-hot."""
    missing = np.isnan(numbers)
    filled = np.where(missing, np.nanmedian(numbers[train], axis=0), numbers)
    mean, scale = filled[train].mean(0), filled[train].std(0)
    parts = [((filled - mean) / np.where(scale > 0, scale, 1)).clip(-6, 6), missing]
    for column in words.T:
        parts.append(column[:, None] == np.unique(column[train].astype(str))[None])
    return np.concatenate(parts, axis=1).astype(np.float32)


def auc_of(score, y):
    """Chance that a positive scores above a negative, ties half."""
    above = score[y == 1][:, None] - score[y == 0][None]
    return float((above > 0).mean() + 0.5 * (above == 0).mean())


def train_fold(x, y, train, inner, args):
    """Fit on `train`; keep the epoch that was best on `inner`."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    xs, ys = torch.from_numpy(x), torch.from_numpy(y.astype(np.float32))
    model = nn.Sequential(nn.Linear(x.shape[1], 64), nn.LayerNorm(64), nn.GELU(), nn.Dropout(0.4), nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    loss_of = nn.BCEWithLogitsLoss()
    best, best_loss, waited = copy.deepcopy(model.state_dict()), float("inf"), 0
    for epoch in range(1, args.epochs + 1):
        model.train()
        for rows in torch.from_numpy(train)[torch.randperm(len(train))].split(args.batch_size):
            optimizer.zero_grad()
            loss_of(model(xs[rows])[:, 0], ys[rows]).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            loss = loss_of(model(xs[inner])[:, 0], ys[inner]).item()
        waited += 1
        if loss < best_loss:
            best, best_loss, waited = copy.deepcopy(model.state_dict()), loss, 0
        if args.verbose:
            print(f"  epoch {epoch}/{args.epochs} validation_loss {loss:.4f}", flush=True)
        if args.early_stopping and waited >= 8:
            break
    model.load_state_dict(best)
    return model.eval()


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

    import torch

    torch.set_num_threads(1)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    if args.data is None:
        args.data = args.output_dir / "patients.csv"
        generate_table(args.data)
    numbers, words, y, patients = read_table(args.data, args.label, args.group)
    names = np.random.default_rng(0).permutation(np.unique(patients))
    fold_of = {name: i % args.folds for i, name in enumerate(names)}
    folds = np.array([fold_of[p] for p in patients])
    inner_of = {name: i // args.folds % 6 == 0 for i, name in enumerate(names)}
    inner = np.array([inner_of[p] for p in patients])
    aucs, hits = [], []
    for fold in range(args.folds):
        train, held, test = (np.flatnonzero(m) for m in ((folds != fold) & ~inner, (folds != fold) & inner, folds == fold))
        x = prepare(numbers, words, train)
        model = train_fold(x, y, train, held, args)
        with torch.no_grad():
            score = model(torch.from_numpy(x[test]))[:, 0].numpy()
        aucs.append(auc_of(score, y[test]))
        hits.append(float(((score > 0) == y[test]).mean()))
        np.savez(args.output_dir / f"fold{fold + 1}.npz", **{name: value.numpy() for name, value in model.state_dict().items()})
        print(f"fold {fold + 1}: auc {aucs[-1]:.3f} accuracy {hits[-1]:.3f}", flush=True)
    most = float(max(np.mean(y), 1 - np.mean(y)))
    metrics = [
        {"part": "diagnosis", "split": "test", "metric": "auc", "value": float(np.mean(aucs)), "direction": "max", "n": len(y),
         "trivial": {"name": "constant", "value": 0.5}},
        {"part": "diagnosis", "split": "test", "metric": "accuracy", "value": float(np.mean(hits)), "direction": "max", "n": len(y),
         "trivial": {"name": "majority", "value": most}},
    ]  # fmt: skip
    (args.output_dir / "metrics.json").write_text(json.dumps({"metrics": metrics}, indent=1) + "\n", encoding="utf-8")
    print(f"auc {np.mean(aucs):.3f} ± {np.std(aucs):.3f} over {args.folds} folds")


if __name__ == "__main__":
    main()
