"""Readers for the tests of the copy step: numbers from text files, and files that crash, hang or lie."""

import os
import signal
import time
from pathlib import Path

import numpy as np
from trainyard.data.chat import ChatReader
from trainyard.data.refused import Refused


class NumberReader:
    """A file holds a number, or a word that says how to misbehave."""

    def __init__(self, features, root: Path, context: dict):
        self.context, self.seen = context, 0

    def read(self, blobs, sample):
        text = blobs[0].decode().split()[0]
        self.seen += 1
        if text == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if text == "exit":
            os._exit(3)
        if text == "sleep":
            time.sleep(1000)
        if text == "spin":
            while True:
                pass
        if text == "hog":
            raise MemoryError
        if text == "bug":
            raise KeyError("oops")
        if text == "once" and not os.path.exists(sample_flag(self.context)):
            Path(sample_flag(self.context)).touch()
            os._exit(9)
        if text == "wide":
            return {"x": np.zeros(3, np.float32)}, {"text": "wide", "n": np.zeros(1, np.int32)}
        if not text.isdigit():
            raise Refused(f"'{text}' is not a number")
        print("a library that prints to stdout")
        value = int(text) if text != "once" else 0
        return {"x": np.array([value, 2 * value], np.float32)}, {"text": text, "n": np.arange(value % 5, dtype=np.int32)}

    def meta(self):
        return {"made_by": "test"}


def sample_flag(context: dict) -> str:
    return context["fields"]["flag"]


class TwoFileReader(NumberReader):
    """A sample of two files, named by its annotation."""

    def files(self, sample):
        return [sample["extra"]["audio"], sample["extra"]["midi"]]

    def read(self, blobs, sample):
        return {"sum": np.float32(float(blobs[0]) + float(blobs[1]))}, {}


class LargeReader(NumberReader):
    """One whose samples are known to be large before any is read."""

    def sample_bytes(self):
        return 10**9


class SlowNumberReader(NumberReader):
    """Takes its time, so that a copy can be killed in the middle."""

    def read(self, blobs, sample):
        time.sleep(0.01)
        return super().read(blobs, sample)


class SlowRowReader(ChatReader):
    """The same for rows."""

    def read(self, blobs, sample):
        time.sleep(0.001)
        return super().read(blobs, sample)
