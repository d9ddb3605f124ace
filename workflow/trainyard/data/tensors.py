"""Safetensors files that are the same bytes for the same content."""

import json


def ordered(data: bytes) -> bytes:
    """A serialised safetensors file with its metadata in order: the library writes them in a random one."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    if "__metadata__" in header:
        header = {"__metadata__": dict(sorted(header["__metadata__"].items())), **{k: v for k, v in header.items() if k != "__metadata__"}}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[start:]
