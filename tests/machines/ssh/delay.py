"""ProxyCommand that delays every byte in both directions: delay.py HOST PORT SECONDS."""

import collections
import os
import select
import socket
import sys
import time


def main() -> None:
    host, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    wire = socket.create_connection((host, port)).detach()
    # From, to, and what is on its way: (when it arrives, bytes); empty bytes are the end.
    lines = [(0, wire, collections.deque()), (wire, 1, collections.deque())]
    open_ends = {0, wire}
    while open_ends or any(line for _, _, line in lines):
        due = [line[0][0] for _, _, line in lines if line]
        wait = max(0.0, min(due) - time.monotonic()) if due else None
        for source in select.select(list(open_ends), [], [], wait)[0]:
            data = os.read(source, 1 << 16)
            next(line for begin, _, line in lines if begin == source).append((time.monotonic() + seconds, data))
            if not data:
                open_ends.discard(source)
        for _, target, line in lines:
            while line and line[0][0] <= time.monotonic():
                data = memoryview(line.popleft()[1])
                if not data:
                    return
                while data:
                    data = data[os.write(target, data) :]


if __name__ == "__main__":
    main()
