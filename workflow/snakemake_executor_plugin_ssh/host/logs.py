"""A job's output: one file that everything is appended to, cut in the middle when a job prints without end."""

import os

PARTS = ("log.head", "log.cut", "log.old", "log")


def cut(folder, limit):
    """Keep the beginning and the end of what was printed: at most about `limit` bytes each. The file stays open in the job and is
    appended to, so it is copied and emptied, not renamed."""
    log = os.path.join(folder, "log")
    size = os.path.getsize(log)
    if size <= limit:
        return
    head, old, left_out = (os.path.join(folder, name) for name in ("log.head", "log.old", "log.cut"))
    begin = 0
    if not os.path.exists(head):
        begin = limit // 2
        _copy(log, head, 0, begin)
    lost = os.path.getsize(old) if os.path.exists(old) else 0
    keep_from = max(begin, size - limit)
    _note(left_out, lost + keep_from - begin)
    _copy(log, old, keep_from, size - keep_from)
    os.truncate(log, 0)


def _copy(source, target, offset, length):
    with open(source, "rb") as read, open(target + ".tmp", "wb") as write:
        read.seek(offset)
        while length > 0 and (piece := read.read(min(length, 1 << 20))):
            write.write(piece)
            length -= len(piece)
    os.replace(target + ".tmp", target)


def _note(path, more):
    """Adds to the count of bytes left out."""
    so_far = 0
    if os.path.exists(path):
        with open(path) as file:
            so_far = int(file.read())
    with open(path, "w") as file:
        file.write(str(so_far + more))


def read(folder, offset, limit):
    """At most `limit` bytes of what is kept, from `offset` on; empty at the end."""
    for part in PARTS:
        path = os.path.join(folder, part)
        if not os.path.exists(path):
            continue
        if part == "log.cut":
            with open(path) as file:
                left_out = int(file.read())
            text = f"\n[... {left_out} bytes left out here ...]\n".encode() if left_out else b""
        else:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if offset < size:
                    file.seek(offset)
                    return file.read(limit)
            offset -= size
            continue
        if offset < len(text):
            return text[offset : offset + limit]
        offset -= len(text)
    return b""


def tail(folder, limit):
    """The last `limit` bytes."""
    path = os.path.join(folder, "log")
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - limit))
            return file.read(limit)
    except OSError:
        return b""
