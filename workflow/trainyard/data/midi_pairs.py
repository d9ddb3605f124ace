"""Which note-off ends which note, where notes of one pitch overlap.

symusic gives the first note-off to the first note that sounds. pretty_midi, whose reading the field is used to, lets it end
every note of its pitch that sounds, and drops notes without length. Where no two notes of one pitch overlap both are the
same; this turns the one into the other, without reading the file again, by the note-offs that symusic's pairs hold.
"""

import numpy as np

KEYS = 128  # pitches


def ends_as_pretty_midi(
    track: np.ndarray, pitch: np.ndarray, start: np.ndarray, end: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray | None, bool]:
    """New ends, notes to keep, and whether the pairs tell enough; None and None where nothing changes.

    All (n,) int64, each track in the order of its starts. Notes without length tell too little where others of their pitch
    overlap them: which of the note-ons of a tick came before its note-off is not known any more.
    """
    key = track * KEYS + pitch
    if len(key) and key[-1] < 1 << 16:
        key = key.astype(np.uint16)  # sorted by radix
    order = key.argsort(kind="stable")
    k, s, e = key.take(order), start.take(order), end.take(order)
    overlap = np.flatnonzero((s[1:] < e[:-1]) & (k[1:] == k[:-1])) + 1
    empty = np.flatnonzero(e == s)
    if not len(overlap) and not len(empty):
        return None, None, True
    keep = None
    if len(empty):
        if np.isin(k[empty], k[overlap]).any() or _shares_its_tick(k, s, e, empty):
            return None, None, False
        keep = np.ones(len(end), bool)
        keep[order[empty]] = False
    if not len(overlap):
        return None, keep, True
    # A note ends at the first note-off of its pitch behind its start. Note-offs are in order: look back while one fits.
    new, at, back = e.copy(), overlap, 1
    if (e.take(overlap) < e.take(overlap - 1)).any():
        order = order[np.lexsort((e, s, k))]
        e = end.take(order)
        new = e.copy()
    else:
        new[at] = e.take(at - 1)  # what makes them overlap
        back = 2
    while len(at):
        before = at - back
        at = at.compress((before >= 0) & (k.take(before) == k.take(at)) & (e.take(before) > s.take(at)))
        new[at] = e.take(at - back)
        back += 1
    out = np.empty_like(end)
    out[order] = new
    return out, keep, True


def _shares_its_tick(k: np.ndarray, s: np.ndarray, e: np.ndarray, empty: np.ndarray) -> bool:
    """Whether a note with a length begins on the key and tick of one without."""
    long = e > s
    without = set(zip(k[empty].tolist(), s[empty].tolist()))
    return any(pair in without for pair in zip(k[long].tolist(), s[long].tolist()))
