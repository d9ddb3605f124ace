"""Trainyard's logger for Snakemake: progress for people, results/summary.json for tools (`logger: trainyard` in a profile).

Snakemake imports this module on every call, jobs included: the parts that do the work are imported when a logger is made.
"""

from dataclasses import dataclass, field
from logging import LogRecord
from typing import Optional

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """Options of the logger: `--logger-trainyard-…`, or `logger-trainyard-…` in a profile."""

    # Snakemake makes an argparse option of the annotation and knows Optional, not `str | None`.
    results: Optional[str] = field(  # noqa: UP045
        default=None, metadata={"help": "folder where summary.json is written (default: `results` of the configuration, else results)"}
    )
    heartbeat: float = field(
        default=30.0,
        metadata={"help": "seconds between two lines about what runs, where there is no terminal; 0: no such lines", "type": float},
    )
    live: str = field(
        default="auto",
        metadata={"help": "redraw in place: auto (where there is a terminal), yes or no", "choices": ["auto", "yes", "no"]},
    )


class LogHandler(LogHandlerBase):
    """Hands every record to the conductor; itself only what Snakemake asks of a logger plugin."""

    def __post_init__(self) -> None:
        from snakemake_logger_plugin_trainyard.conductor import Conductor

        settings = self.settings if isinstance(self.settings, LogHandlerSettings) else LogHandlerSettings()
        self._conductor = Conductor(self.common_settings, settings.results, settings.heartbeat, settings.live)

    def emit(self, record: LogRecord) -> None:
        try:
            self._conductor.emit(record)
        except Exception:
            # A fault of ours must cost neither a training nor a message.
            self.handleError(record)

    def close(self) -> None:
        try:
            self._conductor.close()
        finally:
            super().close()

    @property
    def writes_to_stream(self) -> bool:
        return True

    @property
    def writes_to_file(self) -> bool:
        return False

    @property
    def has_filter(self) -> bool:
        return True

    @property
    def has_formatter(self) -> bool:
        return True

    @property
    def needs_rulegraph(self) -> bool:
        return False
