"""Baselines of the performance models: mean scores, and ridge regression on statistics of what the model may read."""

import numpy as np

from trainyard.baselines.base import Baseline
from trainyard.data.audio import clip_statistics
from trainyard.data.paired import score_parts
from trainyard.data.views import View

READS = {"audio_only": ("audio",), "midi_only": ("midi",), "fusion": ("audio", "midi")}


def baselines(settings: dict, train: View, held: View) -> list[Baseline]:
    """Fitted on `train`, asked for `held`. The ridge reads the recording, the MIDI file or both, as the model does."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    reads = READS[settings["architecture"]]
    names = list(train.pack.meta["target_names"])
    y = np.asarray(train.pack.fixed("scores"))[train.rows]
    target = np.asarray(held.pack.fixed("scores"))[held.rows]
    ridge = make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(-1, 4, 11))).fit(_statistics(train, reads), y)
    mean = np.tile(y.mean(0), (len(target), 1))
    line = np.reshape(ridge.predict(_statistics(held, reads)), target.shape) if len(target) else mean
    items = np.asarray(held.rows, np.int64)[:, None]
    return [
        Baseline("trivial", "mean", items, score_parts(target, mean, names)),
        Baseline("simple", f"ridge on statistics of {' and '.join(reads)}", items, score_parts(target, line, names)),
    ]


def _statistics(view: View, reads: tuple[str, ...]) -> np.ndarray:
    """(rows, features): mean and spread of every mel band, and of every column of the notes."""
    pack, rows = view.pack, view.rows
    blocks = []
    if "audio" in reads:
        blocks.append(np.stack([clip_statistics(pack.fixed("mel")[r], int(pack.fixed("frames")[r])) for r in rows]))
    if "midi" in reads:
        played = [pack.fixed("notes")[r][: pack.fixed("note_count")[r]] for r in rows]
        blocks.append(np.stack([np.concatenate([n.mean(0), n.std(0)]) for n in played]))
    return np.concatenate(blocks, 1)
