"""midi_only: scores of a performance from its MIDI file alone. Sources of the parts: performance.py."""

from trainyard.models.performance import PerformanceModel


class MidiOnly(PerformanceModel):
    reads = ("midi",)
