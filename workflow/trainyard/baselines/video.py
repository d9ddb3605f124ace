"""Baselines of the video suite: the majority class and the mean position; then a blob tracker of ten minutes.

The tracker takes each frame's pixels that stand out from their clip's mean colour and follows their centre. On how the
centres move, and how much the picture changes from frame to frame, stands a logistic regression for the class; on the
centres themselves, of all cameras, a ridge regression for the next position. True positions are never looked at: a
constant velocity taken from them would be an oracle, not a baseline.
"""

from typing import Any

import numpy as np

from trainyard.baselines.base import Baseline
from trainyard.data.predictions import PartOutput
from trainyard.data.views import View, labelled

CHUNK = 2**23  # pixels and colours turned to floats at a time: 32 MB


def baselines(settings: dict[str, Any], train: View, held: View) -> list[Baseline]:
    """Fitted on the rows of `train`, predictions for those of `held`: parts trajectory (class) and position (values)."""
    train, held = (View(view.pack, labelled(view.pack, view.rows)) for view in (train, held))
    items = held.rows[:, None]
    classes = len(train.pack.meta["classes"])
    labels, truth = _labels(train), _labels(held)
    before, after = _targets(train), _targets(held)

    shares = np.bincount(labels, minlength=classes) / len(labels)
    majority = PartOutput.classes(truth, np.tile(shares, (len(truth), 1)))
    middle = PartOutput.values(list(after), [before.mean(0)] * len(after))
    tracks, statistics = follow(train)
    held_tracks, held_statistics = follow(held)
    logistic = PartOutput.classes(truth, _logistic(statistics, labels, held_statistics, classes))
    ridge = PartOutput.values(list(after), list(_ridge(tracks, before, held_tracks)))
    return [
        Baseline("trivial", "majority class", items, {"trajectory": majority}),
        Baseline("trivial", "mean position", items, {"position": middle}),
        Baseline("simple", "logistic regression on blob motion", items, {"trajectory": logistic}),
        Baseline("simple", "ridge regression on blob tracks", items, {"position": ridge}),
    ]


def follow(view: View) -> tuple[np.ndarray, np.ndarray]:
    """Of each sample the blob's track (n, cameras · frames · 2), from 0 to 1, and statistics of its motion (n, features)."""
    video, rows = view.pack.fixed("video"), np.asarray(view.rows)
    step = max(1, CHUNK // int(np.prod(video.shape[1:])))
    parts = [_follow(np.asarray(video[rows[i : i + step]])) for i in range(0, len(rows), step)]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _follow(video: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """video (n, cameras, frames, 3, h, w), uint8."""
    n = len(video)
    pixels = video.astype(np.float32)
    pixels -= pixels.mean((2, 4, 5), keepdims=True)
    change = np.abs(np.diff(pixels, axis=2)).mean((3, 4, 5))  # (n, cameras, frames - 1)
    energy = np.square(pixels, out=pixels).sum(3)  # (n, cameras, frames, h, w)
    # The noise lies well below six times the clip's mean, the ball's rim below a fifth of its brightest pixel.
    floor = np.maximum(6 * energy.mean((2, 3, 4), keepdims=True), 0.2 * energy.max((3, 4), keepdims=True))
    energy = np.maximum(energy - floor, 0, out=energy)
    height, width = energy.shape[3:]
    total = energy.sum((3, 4))
    seen = np.maximum(total, 1e-6)
    column = (energy.sum(3) @ ((np.arange(width, dtype=np.float32) + 0.5) / width)) / seen
    row = (energy.sum(4) @ ((np.arange(height, dtype=np.float32) + 0.5) / height)) / seen
    # A frame without a blob says nothing: the middle.
    track = np.where(total[..., None] > 0, np.stack([column, row], -1), 0.5)  # (n, cameras, frames, 2)
    area = (energy > 0).mean((3, 4))
    return track.reshape(n, -1), _motion(track, area, change).reshape(n, -1)


def _motion(track: np.ndarray, area: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Statistics a camera, (n, cameras, 16): speed, acceleration, turning, straightness, spread, blob size, change."""
    velocity = np.diff(track, axis=2)
    force = np.diff(velocity, axis=2) if velocity.shape[2] > 1 else np.zeros_like(velocity)
    speed, push = np.linalg.norm(velocity, axis=-1), np.linalg.norm(force, axis=-1)
    ahead, behind = velocity[:, :, 1:], velocity[:, :, :-1]
    turn = ahead[..., 0] * behind[..., 1] - ahead[..., 1] * behind[..., 0] if ahead.shape[2] else np.zeros_like(speed)
    gone = np.linalg.norm(track[:, :, -1] - track[:, :, 0], axis=-1)
    columns = [
        speed.mean(2), speed.std(2), push.mean(2), push.std(2), turn.mean(2), np.abs(turn).mean(2), turn.std(2),
        force[..., 0].mean(2), force[..., 1].mean(2), force.std(2).mean(-1), gone, gone / np.maximum(speed.sum(2), 1e-6),
        track.std(2)[..., 0], track.std(2)[..., 1], area.std(2) / np.maximum(area.mean(2), 1e-6), change.mean(2),
    ]  # fmt: skip
    return np.stack(columns, -1)


def _logistic(x: np.ndarray, labels: np.ndarray, held: np.ndarray, classes: int) -> np.ndarray:
    """Probabilities (n, classes); classes that the training rows do not have get none."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    out = np.zeros((len(held), classes))
    present = np.unique(labels)
    if len(present) < 2:
        out[:, present] = 1
        return out
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(x, labels)
    out[:, present] = fitted.predict_proba(held)
    return out


def _ridge(x: np.ndarray, targets: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Positions (n, 3). The penalty is chosen by leave-one-out on the training rows."""
    from sklearn.linear_model import RidgeCV

    return RidgeCV(np.logspace(-6, 2, 9)).fit(x, targets).predict(held)


def _labels(view: View) -> np.ndarray:
    return np.asarray(view.pack.fixed("label"))[view.rows]


def _targets(view: View) -> np.ndarray:
    """The next positions (n, 3)."""
    return np.asarray(view.pack.fixed("positions")[view.rows, -1], np.float64)
