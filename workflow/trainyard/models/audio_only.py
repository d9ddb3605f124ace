"""audio_only: scores of a performance from its recording alone. Sources of the parts: performance.py."""

from trainyard.models.performance import PerformanceModel


class AudioOnly(PerformanceModel):
    reads = ("audio",)
