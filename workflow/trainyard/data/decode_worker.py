"""The program of a decoding worker: `python -m trainyard.data.decode_worker`, frames on stdin and stdout.

A parser that crashes takes this process with it and nothing else. One that loops is ended by the system: ITIMER_PROF
counts the processor time of all threads, in native code too, and SIGPROF's default is to end the process.
A frame: lengths of a JSON header and of the raw bytes behind it, as two little-endian uint64, then both. No pickle.
"""

import contextlib
import gc
import importlib
import json
import os
import signal
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

HEAD = struct.Struct("<QQ")
NO_MEMORY = 70  # the exit code of a worker that could not hold the bytes it was sent


def pack_arrays(fields: dict[str, Any]) -> tuple[list[list], list[bytes]]:
    """Arrays and texts as (name, dtype or "text", shape, bytes) and their bytes."""
    described, blobs = [], []
    for name, value in fields.items():
        if isinstance(value, str):
            blob, entry = value.encode("utf-8", "surrogatepass"), [name, "text", []]
        else:
            array = np.ascontiguousarray(value) if np.ndim(value) else np.asarray(value)
            if array.dtype.hasobject:
                raise TypeError(f"field '{name}' holds Python objects")
            blob, entry = array.tobytes(), [name, array.dtype.str, list(array.shape)]
        described.append([*entry, len(blob)])
        blobs.append(blob)
    return described, blobs


def unpack_arrays(described: list[list], data: memoryview) -> tuple[dict[str, Any], memoryview]:
    """What `pack_arrays` described, and the bytes behind it."""
    out: dict[str, Any] = {}
    for name, kind, shape, size in described:
        part, data = data[:size], data[size:]
        out[name] = bytes(part).decode("utf-8", "surrogatepass") if kind == "text" else np.frombuffer(part, kind).reshape(shape)
    return out, data


def load_reader(target: str, format_name: str, features: dict, root: str, context: dict):
    """Build a reader, `module:Class`, with typed features."""
    from trainyard.config.features import FEATURES

    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)(FEATURES[format_name].model_validate(features), Path(root), context)


def _receive(stream: BinaryIO) -> tuple[dict, memoryview] | None:
    head = stream.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    length, size = HEAD.unpack(head)
    header = stream.read(length)
    body = stream.read(size)
    return (json.loads(header), memoryview(body)) if len(header) == length and len(body) == size else None


def _next(stream: BinaryIO) -> tuple[dict, memoryview] | None:
    try:
        return _receive(stream)
    except MemoryError:
        os._exit(NO_MEMORY)


def _send(stream: BinaryIO, header: dict, blobs: list[bytes] = []) -> None:  # noqa: B006
    text = json.dumps(header).encode()
    stream.write(HEAD.pack(len(text), sum(map(len, blobs))))
    stream.write(text)
    for blob in blobs:
        stream.write(blob)
    stream.flush()


def _limit_memory(megabytes: int) -> None:
    if not megabytes:
        return
    import resource

    # Written memory, not address space: native libraries map far more than they use.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (megabytes << 20, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def _leave_with_parent() -> None:
    """End with the process that started this one: a reader that hangs would otherwise outlive it."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    _leave_with_parent()
    # Libraries print to stdout; the frames go elsewhere, so that they cannot be mixed.
    stream_in, stream_out = os.fdopen(os.dup(0), "rb", 1 << 20), os.fdopen(os.dup(1), "wb", 1 << 20)
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    start = _receive(stream_in)
    if start is None:
        return
    settings = start[0]
    sys.path[:] = settings["path"]
    from trainyard.data.refused import Refused

    try:
        reader = load_reader(settings["reader"], settings["format"], settings["features"], settings["root"], settings["context"])
        _send(stream_out, {"meta": reader.meta()})
    except Exception as error:
        _send(stream_out, {"failed": f"{type(error).__name__}: {error}"})
        return
    _limit_memory(settings["memory_mb"])
    gc.freeze()  # what is imported stays; the collector need not look through it again
    while (request := _next(stream_in)) is not None:
        header, data = request
        for item in header["items"]:
            blobs = []
            for size in item["sizes"]:
                blobs.append(bytes(data[:size]))
                data = data[size:]
            signal.setitimer(signal.ITIMER_PROF, settings["seconds"])
            try:
                fixed, ragged = reader.read(blobs, item["sample"])
                described, first = pack_arrays(fixed)
                more, second = pack_arrays(ragged)
                answer: dict[str, Any] = {"fixed": described, "ragged": more}
                body = first + second
            except Refused as reason:
                answer, body = {"refused": str(reason)}, []
            except MemoryError:
                answer, body = {"refused": "needs more memory to read than a worker may use"}, []
            except Exception as error:
                answer, body = {"refused": f"its reader failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}"}, []
            signal.setitimer(signal.ITIMER_PROF, 0)
            _send(stream_out, answer, body)


if __name__ == "__main__":
    main()
