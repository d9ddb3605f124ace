"""Dividing JSONL files by themselves: exact shards and an eval part, in two passes over blocks of bytes.

First pass: xxh3 of every row, 8 bytes a row. Rows whose hash lies in the lowest `eval_fraction` of all hashes are for
evaluation, so equal rows never lie on both sides and a row keeps its side when data are added. The others are ranked by
hash and cut into shards whose sizes differ by at most one: two thresholds a shard are enough for the second pass, which
hashes again and writes. Memory: 16 bytes a row and some blocks.
"""

import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from trainyard.data.errors import DataError
from trainyard.data.files import replacing, sha256_file, write_json
from trainyard.data.lines import line_blocks
from trainyard.data.names import from_text, to_text
from trainyard.data.refused import write_quarantine
from trainyard.data.split import shard_edges
from trainyard.data.walk import base_folder, walk

ENDINGS = (".jsonl", ".ndjson")


@dataclass
class _Block:
    """Rows of one block: where they begin and end in the view (with the line end), and which are rows at all."""

    file: int
    line: int
    view: memoryview
    begin: np.ndarray
    end: np.ndarray
    good: np.ndarray
    blank: np.ndarray
    offset: int


@dataclass
class Result:
    """What was written."""

    counts: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    summary: dict[str, Any] = field(default_factory=dict)


def find_files(source: Path) -> list[str]:
    """The JSONL files of a folder, or the file itself, by name. Raises DataError."""
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    if source.is_file():
        return [to_text(source.name)]
    found = [f for f in walk(source, lambda path: path.lower().endswith(ENDINGS)) if f.refused is None]
    if not found:
        raise DataError(f"{source}: holds no file that ends in {' or '.join(ENDINGS)}")
    return [f.path for f in found]


def split_lines(source: Path, output: Path, shards: int, eval_fraction: float, seed: int = 0, archives: bool = False) -> Result:
    """Write shard-01.jsonl …, eval.jsonl, splits.json (and quarantine.csv where rows were left out) into `output`.

    A row is kept as it is, byte for byte; a line that does not begin with { and end with } is left out. Raises DataError.
    """
    if shards < 1 or not 0 <= eval_fraction < 1:
        raise DataError(f"--shards must be at least 1 and --eval-fraction in [0, 1), not {shards} and {eval_fraction}")
    files = find_files(source)
    paths = [base_folder(source) / from_text(f) for f in files]
    _check_output(paths, output)
    before = [_stamp(p) for p in paths]
    hashes = _hash_all(paths, seed)
    limit = np.uint64(min(int(eval_fraction * 2**64), 2**64 - 1))
    rest = hashes[hashes >= limit]
    if len(rest) < shards:
        raise DataError(f"{source}: {len(rest)} rows are left to train on; they cannot fill {shards} shards")
    edges = shard_edges(len(rest), shards)
    rest.partition([e for e in edges[1:-1] if e < len(rest)] or [0])
    cuts = rest[edges[1:-1]] if shards > 1 else rest[:0]
    # Equal hashes at a border: so many of them, in the order of the files, still belong to the shard before it.
    ties = [int(edges[i + 1] - (rest < c).sum()) for i, c in enumerate(cuts)]
    del rest
    names = [f"shard-{i + 1:02d}.jsonl" for i in range(shards)] + (["eval.jsonl"] if eval_fraction else [])
    output.mkdir(parents=True, exist_ok=True)
    work = output / f".split-{os.getpid()}"
    work.mkdir()
    try:
        result = _write(paths, files, work, names, hashes, limit, cuts, ties)
        if [_stamp(p) for p in paths] != before:
            raise DataError(f"{source}: changed while it was divided; run again when it is at rest")
        _finish(result, source, output, work, names, seed, eval_fraction, archives)
    finally:
        for leftover in work.iterdir():
            leftover.unlink()
        work.rmdir()
    return result


def _check_output(paths: list[Path], output: Path) -> None:
    need = sum(p.stat().st_size for p in paths)
    place = next(p for p in (output, *output.parents) if p.exists())
    status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    if need > free:
        raise DataError(
            f"{output}: the shards need {need / 1e9:.2f} GB, {free / 1e9:.2f} GB are free: {(need - free) / 1e9:.2f} GB are missing"
        )
    inside = {p.resolve() for p in paths}
    if any((output / p.name).resolve() in inside for p in paths):
        raise DataError(f"{output}: lies in the source folder, and its shards would become source next time; give another --output")


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _blocks(paths: list[Path]) -> Iterator[_Block]:
    for number, path in enumerate(paths):
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        line = 0
        try:
            for offset, view, ends in line_blocks(file):
                data = np.frombuffer(view, np.uint8)
                begin = np.concatenate(([0], ends[:-1]))
                if offset == 0 and view[:3] == b"\xef\xbb\xbf":
                    begin[0] = 3  # a byte order mark is not part of the first row
                last = np.maximum(ends - 2, begin)
                last -= (data[last] == 13) & (last > begin)
                good = (data[begin] == ord("{")) & (data[last] == ord("}"))
                blank = np.zeros(len(ends), bool)
                for i in np.flatnonzero(~good).tolist():
                    text = bytes(view[begin[i] : ends[i]]).strip()
                    blank[i] = not text
                    good[i] = text[:1] == b"{" and text[-1:] == b"}"
                yield _Block(number, line, view, begin, ends, good, blank, offset)
                line += len(ends)
        finally:
            os.close(file)


def _hash(block: _Block, seed: int) -> np.ndarray:
    """xxh3 of every row of the block, (n,) uint64, without its line end."""
    view, digest = block.view, xxhash.xxh3_64_intdigest
    data = np.frombuffer(view, np.uint8)
    stop = block.end - 1
    stop = stop - ((stop > block.begin) & (data[np.maximum(stop - 1, 0)] == 13))
    spans = zip(block.begin.tolist(), stop.tolist())
    return np.fromiter((digest(view[a:b], seed) for a, b in spans), np.uint64, len(block.end))


def _hash_all(paths: list[Path], seed: int) -> np.ndarray:
    parts = [_hash(block, seed)[block.good] for block in _blocks(paths)]
    return np.concatenate(parts) if parts else np.zeros(0, np.uint64)


def _write(paths, files, work, names, hashes, limit, cuts, ties) -> Result:
    result = Result(dict.fromkeys(names, 0))
    outs = [os.open(work / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644) for name in names]
    left = list(ties)
    at = 0
    quarantine: list[tuple[str, str]] = []
    try:
        for block in _blocks(paths):
            count = int(block.good.sum())
            mine = hashes[at : at + count]
            at += count
            place = np.searchsorted(cuts, mine, "right")
            for i in np.flatnonzero(np.isin(mine, cuts) & (mine >= limit)).tolist():
                border = int(np.searchsorted(cuts, mine[i], "left"))
                while border < len(cuts) and cuts[border] == mine[i] and left[border] <= 0:
                    border += 1
                for b in range(border, len(cuts)):
                    left[b] -= cuts[b] == mine[i]
                place[i] = border
            place[mine < limit] = len(names) - 1
            begin, end = block.begin[block.good].tolist(), block.end[block.good].tolist()
            view = block.view
            for number, out in enumerate(outs):
                chosen = np.flatnonzero(place == number).tolist()
                _write_all(out, [view[begin[i] : end[i]] for i in chosen])
                result.counts[names[number]] += len(chosen)
            for i in np.flatnonzero(~block.good & ~block.blank).tolist():
                quarantine.append(
                    (f"{files[block.file]}:{block.line + i + 1}", "the line is not a JSON object: it does not begin with { and end with }")
                )
        for out in outs:
            os.fsync(out)
    finally:
        for out in outs:
            os.close(out)
    if quarantine:
        write_quarantine(work / "quarantine.csv", quarantine)
    result.refused = len(quarantine)
    return result


def _write_all(out: int, parts: list[memoryview]) -> None:
    for i in range(0, len(parts), 1024):
        some = parts[i : i + 1024]
        wrote, total = os.writev(out, some), sum(map(len, some))
        if wrote < total:
            rest = memoryview(b"".join(some))[wrote:]
            while rest:
                rest = rest[os.write(out, rest) :]


def _finish(result, source, output, work, names, seed, eval_fraction, archives) -> None:
    described = []
    for name in names:
        part = work / name
        described.append({"file": name, "rows": result.counts[name], "bytes": part.stat().st_size, "sha256": sha256_file(part)})
    for old in output.glob("shard-*.jsonl*"):
        old.unlink()
    for name in names:
        os.replace(work / name, output / name)
        if archives:
            with replacing(output / f"{name}.zip") as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.write(output / name, name)
            described[names.index(name)]["zip_sha256"] = sha256_file(output / f"{name}.zip")
    if (work / "quarantine.csv").exists():
        os.replace(work / "quarantine.csv", output / "quarantine.csv")
    result.summary = {
        "source": to_text(str(source)), "seed": seed, "eval_fraction": eval_fraction, "rows": sum(result.counts.values()),
        "refused": result.refused, "files": described,
    }  # fmt: skip
    write_json(output / "splits.json", result.summary)
