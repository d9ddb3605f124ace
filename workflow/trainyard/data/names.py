"""File names as text that every table and JSON file can hold, and back.

A file name on Linux is bytes, not always UTF-8. Python shows the odd bytes as lone surrogates (PEP 383), which parquet,
JSON and CSV refuse. Here such a byte is written `\\xNN`, and a backslash that would read as one `\\x5c`: the way back is exact.
"""

import re

_ESCAPE = re.compile(r"\\(?=x[0-9a-f]{2})|[\udc80-\udcff]")
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")


def to_text(name: str) -> str:
    """A name from os.scandir or os.fsdecode as text that can be encoded as UTF-8."""
    if name.isascii() and "\\" not in name:
        return name
    return _ESCAPE.sub(lambda m: r"\x5c" if m[0] == "\\" else rf"\x{ord(m[0]) - 0xDC00:02x}", name)


def from_text(text: str) -> str:
    """The name that `to_text` made this text from, for os.open."""
    return _ESCAPED.sub(lambda m: _byte(int(m[1], 16)), text) if "\\x" in text else text


def _byte(value: int) -> str:
    return chr(value) if value < 0x80 else chr(0xDC00 + value)


def shorten(text: str, length: int = 80) -> str:
    """Text on one line for a message, cut in the middle."""
    text = text.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    return text if len(text) <= length else f"{text[: length // 2 - 1]}…{text[-(length // 2 - 1) :]}"
