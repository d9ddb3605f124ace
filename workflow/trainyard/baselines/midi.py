"""Baselines of the MIDI models: unigram and n-grams for melody and harmony, the last chord, means for the groove.

All see what the model sees of a window and no more: the notes and chords before the one that is asked for.
"""

import numpy as np

from trainyard.baselines.base import Baseline
from trainyard.baselines.ngram import NGram, token_scores
from trainyard.data.midi import DRUMS, DURATIONS, NO_CHORD, PITCHES
from trainyard.data.midi_items import (
    GROOVE_STEPS,
    groove_items,
    groove_window,
    harmony_items,
    harmony_window,
    melody_items,
    melody_window,
)
from trainyard.data.predictions import PartOutput
from trainyard.data.views import View

BEFORE = -1  # stands for a note or chord before the window
# Context of each n-gram. p1, d1: the last note's pitch and duration; p2, d2: those before; i1: the last interval;
# step: where in the bar the note falls.
DURATION = ((), ("step",), ("d1", "step"))
MELODY_ORDERS = {
    "unigram": ("pitch", ((),), ((),)),
    "bigram": ("pitch", ((), ("p1",)), DURATION),
    "trigram": ("pitch", ((), ("p1",), ("p2", "p1")), (*DURATION, ("d2", "d1", "step"))),
    # In intervals, so that it learns from every key at once, as the model does by transposition.
    "intervals": ("interval", ((), ("i1",)), DURATION),
    "intervals and bar": ("interval", ((), ("i1",), ("i1", "step")), DURATION),
}
CHORD_ORDERS = {"bigram": ((), ("c1",)), "trigram": ((), ("c1",), ("c2", "c1"))}


def baselines(settings: dict, train: View, held: View) -> list[Baseline]:
    """The baselines of one run's architecture (see the job settings), on the windows of `held`."""
    architecture, options = settings["architecture"], settings["options"]
    if architecture == "melody_transformer":
        return _melody(train, held, options["context"])
    if architecture == "harmony_predictor":
        return _harmony(train, held, options["context"])
    return _groove(train, held)


def _level(name: str) -> str:
    return "trivial" if name in ("unigram", "mean") else "simple"


def _melody(train: View, held: View, context: int) -> list[Baseline]:
    items = melody_items(held.pack, held.rows, context)
    seen = _melody_columns(train.pack, melody_items(train.pack, train.rows, context), context)
    asked = _melody_columns(held.pack, items, context)
    n = len(asked["pitch"])
    out = []
    for name, (target, pitch_orders, duration_orders) in MELODY_ORDERS.items():
        size = PITCHES if target == "pitch" else 2 * PITCHES
        pitch = NGram(pitch_orders, size).fit(seen, seen[target]).probabilities(asked, n)
        if target == "interval":
            pitch = np.take_along_axis(pitch, np.arange(PITCHES) - asked["p1"][:, None] + PITCHES, 1)
            pitch /= pitch.sum(1, keepdims=True)  # intervals that leave the range are impossible
        duration = NGram(duration_orders, len(DURATIONS)).fit(seen, seen["duration"]).probabilities(asked, n)
        found = {"pitch": pitch, "duration": duration}
        parts = {part: PartOutput.tokens(*token_scores(p, asked[part], asked["window"], len(items))) for part, p in found.items()}
        out.append(Baseline(_level(name), name, items, parts))
    return out


def _melody_columns(pack, items: np.ndarray, context: int) -> dict[str, np.ndarray]:
    """A row a predicted note, (n,) each: its pitch, duration, step, those before it, its window."""
    rows = [np.zeros((0, 8), np.int64)]
    for index, item in enumerate(items):
        notes = melody_window(pack, item, context)
        past = np.pad(notes[:, :2], ((1, 0), (0, 0)), constant_values=BEFORE)
        rows.append(np.concatenate([notes[1:], past[1:-1], past[:-2], np.full((len(notes) - 1, 1), index)], 1))
    names = ("pitch", "duration", "step", "p1", "d1", "p2", "d2", "window")
    out = dict(zip(names, np.concatenate(rows).T))
    out["interval"] = out["pitch"] - out["p1"] + PITCHES
    out["i1"] = np.where(out["p2"] == BEFORE, 2 * PITCHES, out["p1"] - out["p2"] + PITCHES)
    return out


def _harmony(train: View, held: View, context: int) -> list[Baseline]:
    items = harmony_items(held.pack, held.rows, context)
    seen = _chord_columns(train.pack, harmony_items(train.pack, train.rows, context), context)
    asked = _chord_columns(held.pack, items, context)
    n = len(asked["chord"])
    unigram = NGram([()], NO_CHORD).fit(seen, seen["chord"]).probabilities(asked, n)
    found = {"unigram": unigram, "last chord": _last_chord(seen, asked, unigram)}
    for name, orders in CHORD_ORDERS.items():
        found[name] = NGram(orders, NO_CHORD).fit(seen, seen["chord"]).probabilities(asked, n)
    found["trigram in every key"] = _any_key(seen, asked)
    score = lambda p: PartOutput.tokens(*token_scores(p, asked["chord"], asked["window"], len(items)))  # noqa: E731
    return [Baseline(_level(name), name, items, {"chord": score(p)}) for name, p in found.items()]


def _chord_columns(pack, items: np.ndarray, context: int) -> dict[str, np.ndarray]:
    """A row a predicted chord, (n,) each: the chord, the two before it, its window."""
    rows = [np.zeros((0, 4), np.int64)]
    for index, item in enumerate(items):
        chords, _ = harmony_window(pack, item, context)
        past = np.append(BEFORE, chords)
        found = np.stack([chords[1:], past[1:-1], past[:-2], np.full(len(chords) - 1, index)], 1)
        rows.append(found[found[:, 0] != NO_CHORD])
    return dict(zip(("chord", "c1", "c2", "window"), np.concatenate(rows).T))


def _last_chord(seen: dict, asked: dict, unigram: np.ndarray) -> np.ndarray:
    """The last chord again, as often as it stays in training (at least half, so that it is the guess); else the unigram."""
    stays = (np.sum(seen["chord"] == seen["c1"]) + 1) / (len(seen["chord"]) + 2)
    return _mix(unigram, asked["c1"], max(stays, 0.5))


def _mix(p: np.ndarray, chord: np.ndarray, share: float) -> np.ndarray:
    known = np.flatnonzero((chord >= 0) & (chord < NO_CHORD))
    out = p.copy()
    out[known] *= 1 - share
    out[known, chord[known]] += share
    return out


def _any_key(seen: dict, asked: dict) -> np.ndarray:
    """A trigram of chords relative to the last chord's root, so that it learns from all twelve keys at once."""
    moved, root = _relative(asked)
    known, _ = _relative(seen)
    p = NGram(CHORD_ORDERS["trigram"], NO_CHORD).fit(known, known["chord"]).probabilities(moved, len(root))
    chord = np.arange(NO_CHORD)
    return np.take_along_axis(p, (chord % 12 - root[:, None]) % 12 + chord // 12 * 12, 1)


def _relative(columns: dict) -> tuple[dict, np.ndarray]:
    is_chord = (columns["c1"] >= 0) & (columns["c1"] < NO_CHORD)
    root = np.where(is_chord, columns["c1"] % 12, 0)
    out = {}
    for name in ("chord", "c1", "c2"):
        c = columns[name]
        out[name] = np.where((c >= 0) & (c < NO_CHORD), (c % 12 - root) % 12 + c // 12 * 12, c)
    return out, root


def _groove(train: View, held: View) -> list[Baseline]:
    total, count = np.zeros((GROOVE_STEPS, len(DRUMS), 2)), np.zeros((GROOVE_STEPS, len(DRUMS), 1))
    for item in groove_items(train.pack, train.rows):
        hit, played, _ = groove_window(train.pack, item)
        total += played
        count += hit[..., None]
    mean = total.sum((0, 1)) / max(count.sum(), 1)
    cell = np.where(count > 0, total / np.maximum(count, 1), mean)
    items = groove_items(held.pack, held.rows)
    windows = [groove_window(held.pack, item) for item in items]
    out = []
    for name, guess in (("mean", np.broadcast_to(mean, cell.shape)), ("mean of drum and step", cell)):
        parts = {}
        for k, part in enumerate(("velocity", "offset")):
            target = [played[hit, k] for hit, played, _ in windows]
            parts[part] = PartOutput.values(target, [guess[hit, k] for hit, _, _ in windows])
        out.append(Baseline(_level(name), name, items, parts))
    return out
