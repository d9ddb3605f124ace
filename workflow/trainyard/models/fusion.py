"""fusion: scores of a performance from its recording and its MIDI file together, joined late. Sources of the parts: performance.py."""

from trainyard.models.performance import PerformanceModel


class Fusion(PerformanceModel):
    reads = ("audio", "midi")
