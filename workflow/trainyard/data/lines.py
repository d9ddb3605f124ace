"""Rows of JSONL files and JSON arrays by byte offset, in blocks, without parsing them."""

import json
import mmap
import os
import re
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from trainyard.data.not_text import what_instead
from trainyard.data.refused import Refused

BLOCK = 8 << 20
ROW_BYTES = 64 << 20  # a longer row is not read
SCANS = 16  # files that are looked through at once, two blocks of memory each
MARK = b"\xef\xbb\xbf"
UTF16 = (b"\xff\xfe", b"\xfe\xff")
_STRAY = re.compile(rb"[^\s,\[\]]")
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)


def line_blocks(file: int, block: int = BLOCK) -> Iterator[tuple[int, memoryview, np.ndarray]]:
    """Whole lines of an open file: (offset of the block, its bytes, ends of its lines), the ends (n,) int64 behind each newline.

    The view is valid until the next but one block is asked for. A line longer than a block makes the buffer grow to hold it;
    a last line without a newline gets one. Memory: two blocks and the longest line.
    """
    # No larger than the file is: to clear megabytes for each of many small files takes longer than to read them.
    room = min(block + (1 << 16), os.fstat(file).st_size + 2)
    block = min(block, room)
    buffer, other = bytearray(room), bytearray(room)
    kept, offset = 0, 0
    while True:
        if len(buffer) - kept < block // 2:
            buffer = buffer + bytearray(len(buffer))
        view = memoryview(buffer)
        count = os.readv(file, [view[kept:]])
        size = kept + count
        if count == 0:
            if not size:
                return
            view[size : size + 1] = b"\n"
            yield offset, view[: size + 1], np.array([size + 1], np.int64)
            return
        # Only the new bytes can hold a newline: what was kept is the head of an unfinished line.
        ends = np.flatnonzero(np.frombuffer(buffer, np.uint8, count, kept) == 10) + (kept + 1)
        if not len(ends):
            kept = size
            continue
        last = int(ends[-1])
        yield offset, view[:last], ends
        kept = size - last
        if len(other) < kept + block // 2:
            other = bytearray(kept + block)
        other[:kept] = view[last:size]
        buffer, other = other, buffer
        offset += last


def scan_lines(file: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the lines of an open file that hold anything begin, and their lengths in bytes without the line end; (n,) int64 each."""
    starts, sizes = [], []
    for offset, view, ends in line_blocks(file):
        data = np.frombuffer(view, np.uint8)
        begin = np.concatenate(([0], ends[:-1]))
        length = ends - begin - 1
        # CRLF: the carriage return belongs to the line end.
        length -= (length > 0) & (data[np.maximum(ends - 2, 0)] == 13)
        keep = length > 0
        short = np.flatnonzero(keep & (length <= 64))
        for i in short.tolist():
            keep[i] = bool(bytes(view[begin[i] : begin[i] + length[i]]).strip())
        starts.append(begin[keep] + offset)
        sizes.append(length[keep])
    empty = np.zeros(0, np.int64)
    return np.concatenate(starts or [empty]), np.concatenate(sizes or [empty])


def scan_array(file: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the objects of an open file that holds one JSON array begin, and their lengths in bytes; (n,) int64 each.

    What stands between them counts too, so that it is refused when it is parsed: numbers and texts, what is behind the array.
    """
    starts, ends, depth, last = array("q"), array("q"), 0, 0
    with mmap.mmap(file, 0, access=mmap.ACCESS_READ) as data:

        def between(stop: int) -> None:
            """Take what lies between the last object and `stop`, if it is more than blanks and commas."""
            if (stray := _STRAY.search(data, last, stop)) is not None:
                tail = data[max(stray.start(), stop - 64) : stop]
                starts.append(stray.start())
                ends.append(stop - len(tail) + len(tail.rstrip(b" \t\r\n,[]")))

        if data[:3] == MARK:
            last = len(MARK)
        for token in _TOKENS.finditer(data):
            kind = token[0]
            if kind in (b"{", b"["):
                depth += 1
                if depth == 2:
                    between(token.start())
                    starts.append(token.start())
            elif kind in (b"}", b"]"):
                if depth == 2:
                    last = token.end()
                    ends.append(last)
                depth -= 1
        if len(ends) < len(starts):
            ends.append(len(data))  # cut off in the middle: the last object is refused when it is parsed
        else:
            between(len(data))
    begin = np.array(starts, np.int64)
    return begin, np.array(ends, np.int64) - begin


def _one_object(file: int, size: int, head: bytes) -> bool:
    """Whether a file is one object over several lines, as a folder of JSON files holds them."""
    first, newline, rest = head.lstrip().partition(b"\n")
    if not newline or not rest.strip() or first.rstrip().endswith(b"}") or size > BLOCK:
        return False
    try:
        return isinstance(json.loads(os.pread(file, size, 0).decode("utf-8-sig")), dict)
    except (ValueError, RecursionError):
        return False


def scan_rows(path: str | os.PathLike) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a JSONL file, of a JSON array, or the one object of a file, whatever it is called: (starts, lengths), (n,) int64 each.

    The file is opened once. Raises OSError, and Refused for a file that is no text in UTF-8.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size, head = os.fstat(file).st_size, os.pread(file, 4096, 0)
        start = len(MARK) if head.startswith(MARK) else 0
        if (other := what_instead(head)) is not None:
            raise Refused(f"not JSON but {other}")
        if head.startswith(UTF16):
            raise Refused("UTF-16 text: write it as UTF-8")
        if not head:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        if head[start:].lstrip().startswith(b"["):
            return scan_array(file)
        if head[start:].lstrip().startswith(b"{") and _one_object(file, size, head[start:]):
            return np.array([start], np.int64), np.array([size - start], np.int64)
        starts, sizes = scan_lines(file)
    finally:
        os.close(file)
    if start and len(starts) and starts[0] == 0:
        # A byte order mark is not part of the first row.
        starts[0], sizes[0] = start, sizes[0] - start
    return starts, sizes


def scan_files(paths: Iterable[Path]) -> Iterator[tuple[np.ndarray, np.ndarray] | str]:
    """`scan_rows` of each file in order, or why it has none. Several are looked through at once: a folder of JSON files has many,
    and a mount takes its time to open one."""

    def scan(path: Path) -> tuple[np.ndarray, np.ndarray] | str:
        try:
            rows = scan_rows(path)
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        except Refused as error:
            return str(error)
        return rows if len(rows[0]) else "holds no rows"

    with ThreadPoolExecutor(SCANS) as pool:
        waiting: deque[Future[tuple[np.ndarray, np.ndarray] | str]] = deque()
        for path in paths:
            waiting.append(pool.submit(scan, path))
            if len(waiting) >= 2 * SCANS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
