"""Baselines of the audio models: majority class and logistic regression; mean contour and a line for each frame."""

import numpy as np

from trainyard.baselines.base import Baseline
from trainyard.data.audio import clip_statistics, colour
from trainyard.data.predictions import PartOutput
from trainyard.data.views import View, labelled

RIDGE = 1.0


def baselines(settings: dict, train: View, held: View) -> list[Baseline]:
    """Fitted on `train`, asked for `held`; which ones, by settings["architecture"]."""
    if settings["architecture"] == "dynamics_engine":
        return loudness_baselines(train, held)
    return class_baselines(train, held)


def class_baselines(train: View, held: View) -> list[Baseline]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fit, ask = labelled(train.pack, train.rows), labelled(held.pack, held.rows)
    y, target = (np.asarray(v.pack.fixed("label"))[r] for v, r in ((train, fit), (held, ask)))
    classes = len(train.pack.meta["classes"])
    prior = (np.bincount(y, minlength=classes) + 1) / (len(y) + classes)
    majority = np.tile(prior, (len(ask), 1))
    items = ask[:, None]
    logistic = majority.copy()
    if len(np.unique(y)) > 1:
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, C=0.1)).fit(_statistics(train, fit), y)
        logistic = np.zeros((len(ask), classes))
        logistic[:, model.classes_] = model.predict_proba(_statistics(held, ask)) if len(ask) else 0
    return [
        Baseline("trivial", "majority", items, {"emotion": PartOutput.classes(target, majority)}),
        Baseline("simple", "logistic on mel means and spreads", items, {"emotion": PartOutput.classes(target, logistic)}),
    ]


def loudness_baselines(train: View, held: View) -> list[Baseline]:
    """The mean loudness at each frame of a clip; and ridge regression from a frame's colour to its loudness."""
    tone, level = _frames(train)
    mean = tone.mean(0)
    a = tone - mean
    weights = np.linalg.solve(a.T @ a + RIDGE * np.eye(a.shape[1]), a.T @ (level - level.mean()))
    contour = _contour(train)
    pack, rows = held.pack, np.asarray(held.rows)
    target, flat, line = [], [], []
    for row in rows:
        n = int(pack.fixed("frames")[row])
        target.append(np.asarray(pack.fixed("loudness")[row][:n]))
        flat.append(contour[:n])
        line.append((colour(pack.fixed("mel")[row][:n]) - mean) @ weights + level.mean())
    items = rows[:, None]
    return [
        Baseline("trivial", "mean contour", items, {"loudness": PartOutput.values(target, flat)}),
        Baseline("simple", "linear for each frame", items, {"loudness": PartOutput.values(target, line)}),
    ]


def _statistics(view: View, rows: np.ndarray) -> np.ndarray:
    """(rows, 2 · mels)"""
    mel, frames = view.pack.fixed("mel"), view.pack.fixed("frames")
    return np.stack([clip_statistics(mel[r], int(frames[r])) for r in rows])


def _frames(view: View, at_most: int = 200_000) -> tuple[np.ndarray, np.ndarray]:
    """Colour (frames, mels) and loudness (frames,) of clips spread over the split, at most so many frames."""
    pack, rows = view.pack, np.asarray(view.rows)
    rows = rows[:: max(1, -(-len(rows) * pack.fixed("mel").shape[1] // at_most))]
    counts = pack.fixed("frames")
    tone = np.concatenate([colour(pack.fixed("mel")[r][: counts[r]]) for r in rows])
    level = np.concatenate([pack.fixed("loudness")[r][: counts[r]] for r in rows])
    return tone, level.astype(np.float64)


def _contour(view: View) -> np.ndarray:
    """Mean loudness of the training clips at each frame, over those that reach it, (frames,)."""
    pack, rows = view.pack, np.asarray(view.rows)
    level, counts = np.asarray(pack.fixed("loudness")[rows], np.float64), np.asarray(pack.fixed("frames"))[rows]
    real = np.arange(level.shape[1]) < counts[:, None]
    overall = level[real].mean()
    return np.where(real.any(0), (level * real).sum(0) / np.maximum(real.sum(0), 1), overall)
