"""Messages between controller and host: a line of JSON, then as many raw bytes as its key `bytes` says."""

import json


def encode(header, raw=b""):
    """Bytes of one message."""
    return json.dumps({**header, "bytes": len(raw)}).encode() + b"\n" + raw


class Frames:
    """Cuts a stream of bytes into messages."""

    def __init__(self):
        self._buffer = bytearray()

    def feed(self, data):
        self._buffer += data

    @property
    def pending(self):
        """Whether anything has arrived that nobody took yet."""
        return bool(self._buffer)

    def next(self):
        """The next whole message as (header, raw), or None. ValueError: this is not our stream."""
        end = self._buffer.find(b"\n")
        if end < 0:
            return None
        header = json.loads(self._buffer[:end])
        stop = end + 1 + header["bytes"]
        if len(self._buffer) < stop:
            return None
        raw = bytes(self._buffer[end + 1 : stop])
        del self._buffer[:stop]
        return header, raw
