"""Which note-off ends which note, where notes of one pitch overlap.

symusic gives the first note-off to the first note that sounds. pretty_midi, whose reading the field is used to, lets it end
every note of its pitch that sounds, and drops notes without length. Where no two notes of one pitch overlap both are the
same; this turns the one into the other, without reading the file again, by the note-offs that symusic's pairs hold.
"""

import numpy as np

# Bits of the sum of two 32-bit numbers, start and length, and of a track: with seven of pitch they fill an int64.
TICK_BITS, TRACK_BITS = 33, 23


def as_pretty_midi(notes: np.ndarray, track: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The notes of a score (see Score) and their tracks, as pretty_midi has them; None where the pairs do not tell enough.

    Lengths change in place. Notes without length tell too little where others of their pitch overlap them: which of the note-ons
    of a tick came before its note-off is not known any more.
    """
    start, length, pitch, _ = notes
    # By pitch, then as they lie, track after track: an argsort of bytes takes a fifth of the time of any other.
    order = pitch.astype(np.uint8).argsort(kind="stable")
    # Pitch and track in the high bits of each time: one comparison says what is earlier, and never mixes two of them.
    begin = pitch << TRACK_BITS
    begin += track
    begin <<= TICK_BITS
    begin += start
    on, off = begin.take(order), (begin + length).take(order)
    overlap = (on[1:] < off[:-1]).nonzero()[0] + 1
    keep = None
    if np.count_nonzero(length) < len(length):
        keep = length != 0
        empty, whole = on[off == on], on[off != on]
        if np.isin(empty >> TICK_BITS, on[overlap] >> TICK_BITS).any() or np.isin(empty, whole).any():
            return None
    if len(overlap):
        if np.count_nonzero(off[1:] < off[:-1]):
            off.sort()
        late = on.take(overlap)
        length[order.take(overlap)] = off.take(off.searchsorted(late, "right")) - late
    return (notes, track) if keep is None else (notes.compress(keep, 1), track.compress(keep))
