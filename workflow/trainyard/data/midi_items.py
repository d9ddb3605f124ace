"""Windows of songs: the items that MIDI models and their baselines share, so that their predictions join.

An item is (row, start). In a window of melody or chords the first element is given, every later one is predicted
from those before it; windows overlap by that one, so each is predicted once.
"""

import numpy as np

from trainyard.data.midi import DRUMS, NO_CHORD, OFFSET_UNIT
from trainyard.data.midi_grid import STEPS

MIN_NOTES = 8  # a window predicts at least so many notes,
MIN_CHORDS = 4  # chords,
MIN_HITS = 4  # or hits
GROOVE_BARS = 2
GROOVE_STEPS = GROOVE_BARS * STEPS


def melody_items(pack, rows: np.ndarray, context: int) -> np.ndarray:
    """Windows that predict up to `context` notes each: (m, 2) of row and first note."""
    return _windows(pack, "melody", rows, context, MIN_NOTES)


def melody_window(pack, item: np.ndarray, context: int) -> np.ndarray:
    """Notes of a window, (k ≤ context + 1, 3) int64: pitch index, duration index, step in the bar."""
    row, start = item
    return pack.at("melody", row)[start : start + context + 1].astype(np.int64)


def harmony_items(pack, rows: np.ndarray, context: int) -> np.ndarray:
    """Windows of up to `context` bars each: (m, 2) of row and first bar."""
    items = _windows(pack, "chords", rows, context - 1, MIN_CHORDS)
    chords = pack.values("chords")
    begin = pack.offsets("chords")[items[:, 0]] + items[:, 1]
    end = np.minimum(begin + context, pack.offsets("chords")[items[:, 0] + 1])
    known = np.append(0, np.cumsum(np.asarray(chords) != NO_CHORD))
    return items[known[end] - known[begin + 1] >= MIN_CHORDS]


def harmony_window(pack, item: np.ndarray, context: int) -> tuple[np.ndarray, np.ndarray]:
    """Chords (k ≤ context,) int64 and chroma (k, 12) float32 of a window. Bars without a chord are not scored."""
    row, start = item
    chords = pack.at("chords", row)[start : start + context].astype(np.int64)
    return chords, pack.at("chroma", row)[start : start + context].astype(np.float32)


def groove_items(pack, rows: np.ndarray) -> np.ndarray:
    """Windows of two bars with at least four hits: (m, 2) of row and first bar."""
    out = []
    for row in np.asarray(rows):
        window, hits = np.unique(pack.at("hits", row)[:, 0] // GROOVE_STEPS, return_counts=True)
        out += [(row, w * GROOVE_BARS) for w in window[hits >= MIN_HITS]]
    return np.array(out, np.int64).reshape(-1, 2)


def groove_window(pack, item: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Hits (32, 8) bool; velocity 0–127 and offset in steps (32, 8, 2) float32; tempo in quarters a minute."""
    row, bar = item
    rows = pack.at("hits", row)
    a, b = np.searchsorted(rows[:, 0], (bar * STEPS, bar * STEPS + GROOVE_STEPS))
    step, drum = rows[a:b, 0].astype(np.int64) - bar * STEPS, rows[a:b, 1]
    hit = np.zeros((GROOVE_STEPS, len(DRUMS)), bool)
    played = np.zeros((GROOVE_STEPS, len(DRUMS), 2), np.float32)
    hit[step, drum] = True
    played[step, drum, 0] = rows[a:b, 2]
    played[step, drum, 1] = rows[a:b, 3] / np.float32(OFFSET_UNIT)
    return hit, played, float(pack.at("tempo", row)[bar])


def _windows(pack, field: str, rows: np.ndarray, stride: int, least: int) -> np.ndarray:
    lengths = np.diff(pack.offsets(field))
    out = [(row, start) for row in np.asarray(rows) for start in range(0, max(int(lengths[row]) - least, 0), stride)]
    return np.array(out, np.int64).reshape(-1, 2)
