"""Which note-off ends which note, where notes of one pitch overlap.

symusic gives the first note-off to the first note that sounds. pretty_midi, whose reading the field is used to, lets it end
every note of its pitch that sounds, and drops notes without length. Where no two notes of one pitch overlap both are the
same; this turns the one into the other, without reading the file again, by the note-offs that symusic's pairs hold.
"""

import numpy as np


def as_pretty_midi(notes: np.ndarray, track: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The notes of a score (see Score) and their tracks, as pretty_midi has them; None where the pairs do not tell enough.

    Lengths change in place. Notes without length tell too little where others of their pitch overlap them: which of the note-ons
    of a tick came before its note-off is not known any more.
    """
    start, length, pitch, _ = notes
    end = start + length
    # By pitch, then as they lie, track after track: an argsort of bytes takes a fifth of the time of any other.
    order = pitch.astype(np.uint8).argsort(kind="stable")
    k, s, e = (pitch << 32 | track).take(order), start.take(order), end.take(order)
    overlap = ((s[1:] < e[:-1]) & (k[1:] == k[:-1])).nonzero()[0] + 1
    keep = None
    if not length.all():
        empty = (e == s).nonzero()[0]
        if np.isin(k[empty], k[overlap]).any() or _shares_its_tick(k, s, e, empty):
            return None
        keep = length != 0
    if len(overlap):
        back = 2  # the one before is what makes it overlap
        if (e.take(overlap) < e.take(overlap - 1)).any():
            order, back = order[np.lexsort((e, s, k))], 1
            e = end.take(order)
        changed = order.take(overlap)
        length[changed] = _first_end(k, s, e, overlap, back) - start.take(changed)
    return (notes, track) if keep is None else (notes.compress(keep, 1), track.compress(keep))


def _first_end(k: np.ndarray, s: np.ndarray, e: np.ndarray, at: np.ndarray, back: int) -> np.ndarray:
    """The first note-off of its pitch behind the start of each note of `at`; known to be at most that of the note `back` - 1 before.

    Note-offs are in order: look back while one fits.
    """
    found, left = e.take(at - (back - 1)), np.arange(len(at))
    while len(left):
        before = at - back
        fits = (before >= 0) & (k.take(before) == k.take(at)) & (e.take(before) > s.take(at))
        left, at = left.compress(fits), at.compress(fits)
        found[left] = e.take(at - back)
        back += 1
    return found


def _shares_its_tick(k: np.ndarray, s: np.ndarray, e: np.ndarray, empty: np.ndarray) -> bool:
    """Whether a note with a length begins on the key and tick of one without."""
    long = e > s
    without = set(zip(k[empty].tolist(), s[empty].tolist()))
    return any(pair in without for pair in zip(k[long].tolist(), s[long].tolist()))
