"""Where lines go: a terminal with a few lines redrawn at its foot, or a plain stream. Plain ANSI, no cursor is ever hidden."""

import os
import re
import shutil
import sys
from typing import TextIO

STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34"}
ANSI = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """Writes lines for good, and a region below them that is drawn anew. A closed pipe is noted, never raised."""

    def __init__(self, stream: TextIO | None = None, live: str = "auto", color: bool = True) -> None:
        self.stream = stream or sys.stderr
        tty = bool(getattr(self.stream, "isatty", lambda: False)()) and os.environ.get("TERM", "") != "dumb"
        self.live = live == "yes" or (live == "auto" and tty)
        self.color = color and tty and not os.environ.get("NO_COLOR")
        encoding = (getattr(self.stream, "encoding", None) or "ascii").lower().replace("-", "")
        self.unicode = encoding.startswith("utf")
        self.broken = False
        self.region: list[str] = []

    def size(self) -> tuple[int, int]:
        """Columns and rows, now: windows are resized."""
        try:
            size = os.get_terminal_size(self.stream.fileno())
            if size.columns > 0 and size.lines > 0:
                return size.columns, size.lines
        except (OSError, ValueError, AttributeError):
            pass
        fallback = shutil.get_terminal_size((80, 24))
        return fallback.columns, fallback.lines

    def paint(self, text: str, *styles: str) -> str:
        if not self.color or not styles or not text:
            return text
        return f"\x1b[{';'.join(STYLES[s] for s in styles)}m{text}\x1b[0m"

    def lines(self, lines: list[str]) -> None:
        """Lines that stay."""
        if lines:
            self._write(self._erase() + "".join(line + "\n" for line in lines) + self._drawn())

    def draw(self, region: list[str]) -> None:
        """Lines at the foot, in place of those drawn before. Does nothing where there is no terminal."""
        if not self.live or region == self.region:
            return
        erase = self._erase()
        self.region = region
        self._write(erase + self._drawn())

    def clear(self) -> None:
        """Take the region away; what follows are lines that stay, or somebody else's output."""
        if self.region:
            erase = self._erase()
            self.region = []
            self._write(erase)

    def _erase(self) -> str:
        if not self.region:
            return ""
        # A narrower window wraps what was drawn: count the rows it takes now.
        columns = max(1, self.size()[0])
        rows = sum(max(1, -(-len(ANSI.sub("", line)) // columns)) for line in self.region)
        return f"\x1b[{rows}A\r\x1b[J"

    def _drawn(self) -> str:
        return "".join(line + "\n" for line in self.region)

    def _write(self, text: str) -> None:
        if self.broken:
            return
        if not self.unicode:
            text = text.translate({0x2013: "-", 0x2026: "...", 0x2192: "->", 0x2588: "#", 0x2591: "."})
            text = text.encode("ascii", "replace").decode("ascii")
        try:
            self.stream.write(text)
            self.stream.flush()
        except (OSError, ValueError):  # closed: the run goes on, and the summary is a file
            self.broken = True
