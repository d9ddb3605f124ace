"""Dividing JSONL files by themselves: exact shards and an eval part, in two passes over pieces of the files, on all cores.

First pass: length and xxh3 of every row. Rows whose hash lies in the lowest `eval_fraction` of all hashes are for evaluation,
so equal rows never lie on both sides and a row keeps its side when data are added. The others are ranked by hash and cut into
shards whose sizes differ by at most one. So which shard a row is in depends on its bytes, the seed and the other rows, not on
names or the order of files; rows keep the order of the source. The second pass writes: how much of each part each piece holds
is known, so every process writes its pieces where they belong.
Memory: 14 bytes a row and some blocks.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from trainyard.data.errors import DataError
from trainyard.data.names import from_text, to_text
from trainyard.data.row_scan import Scan, cut_pieces, refused_lines, scan_piece
from trainyard.data.share import share
from trainyard.data.walk import Found, base_folder, walk
from trainyard.host.resources import usable_cores

if TYPE_CHECKING:  # numpy takes a while to load, as do other modules below, and other processes can be at work by then
    from trainyard.data.row_writer import Part
    from trainyard.data.shards import HashBorders

ENDINGS = (".jsonl", ".ndjson")
NO_ROW = "the line is not a JSON object: it does not begin with { and end with }"
OWN = ("shard-[0-9]*.jsonl*", "eval.jsonl*", "quarantine.csv", "splits.json")  # names in the output folder that are replaced
WORK = ".split"
MAX_SHARDS = 500  # as many files are open at once; the usual limit is 1,024
MAX_WORKERS = 4  # each holds some blocks in memory, and the disk has its limit too


class Result(NamedTuple):
    """What was written: rows of each file, lines and files left out, the content of splits.json."""

    counts: dict[str, int]
    refused: int
    summary: dict[str, Any]


def find_files(source: Path) -> list[Found]:
    """The JSONL files of a folder, or the file itself, by name; also those that cannot be used. Raises DataError."""
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    if source.is_file():
        return [Found(to_text(source.name), source.stat().st_size)]
    if not source.is_dir():
        raise DataError(f"{source}: is neither a file nor a folder")
    found = walk(source, lambda path: path.lower().endswith(ENDINGS))
    if not any(f.refused is None for f in found):
        raise DataError(f"{source}: holds no file that ends in {' or '.join(ENDINGS)}; give the folder or file that does as --source")
    return found


def split_lines(source: Path, output: Path, shards: int, eval_fraction: float, seed: int = 0, archives: bool = False) -> Result:
    """Write shard-01.jsonl …, eval.jsonl, splits.json (and quarantine.csv where rows were left out) into `output`.

    A row is kept as it is, byte for byte; a line that does not begin with { and end with } is left out. Everything is made
    in `output/.split` and put into place at the end, splits.json last: where that is, all of it is. Raises DataError, OSError.
    """
    if not 1 <= shards <= MAX_SHARDS or not 0 <= eval_fraction < 1:
        raise DataError(f"--shards must be 1 to {MAX_SHARDS} and --eval-fraction in [0, 1), not {shards} and {eval_fraction}")
    found = find_files(source)
    files = [f.path for f in found if f.refused is None]
    quarantine = [(f.path, f.refused) for f in found if f.refused is not None]
    paths = [base_folder(source) / from_text(f) for f in files]
    _check_output(source, paths, output)
    before = [_stamp(p) for p in paths]
    workers = min(MAX_WORKERS, max(1, int(usable_cores())))
    pieces = cut_pieces(paths, [length for length, _ in before])
    found_rows = share(lambda piece: scan_piece(paths, pieces[piece], seed), len(pieces), workers, _imports)
    scans = [Scan(*arrays) for arrays in found_rows]
    del found_rows  # the writing empties `scans`, so that memory is freed

    from trainyard.data.files import write_json
    from trainyard.data.refused import write_quarantine
    from trainyard.data.row_writer import deal_rows
    from trainyard.data.work_folder import held_empty

    quarantine += [(f"{files[file]}:{line}", NO_ROW) for file, line in refused_lines(pieces, scans)]
    borders = _borders(scans, shards, eval_fraction, source, quarantine)
    names = (["eval.jsonl"] if eval_fraction else []) + [f"shard-{i + 1:02d}.jsonl" for i in range(shards)]
    with held_empty(output / WORK, f"{output}: another split_dataset.py is writing there; wait for it or give another --output") as work:
        parts = deal_rows(paths, pieces, scans, borders.place, [work / name for name in names], workers)
        if [_stamp(p) for p in paths] != before:
            raise DataError(f"{source}: changed while it was divided; run again when it is at rest")
        parts = parts[1:] + parts[:1] if eval_fraction else parts
        described = [_describe(part) for part in parts]
        if archives:
            _archive(work, described)
        if quarantine:
            write_quarantine(work / "quarantine.csv", quarantine)
        summary = {
            "source": to_text(str(source)), "seed": seed, "eval_fraction": eval_fraction, "rows": sum(p.rows for p in parts),
            "refused": len(quarantine), "files": described,
        }  # fmt: skip
        write_json(work / "splits.json", summary)
        _put_into_place(work, output)
    return Result({part.path.name: part.rows for part in parts}, len(quarantine), summary)


def _imports() -> None:
    """What is needed later, loaded while a helper scans."""
    import trainyard.data.files
    import trainyard.data.refused
    import trainyard.data.row_writer
    import trainyard.data.shards
    import trainyard.data.work_folder  # noqa: F401


def _borders(scans: list[Scan], shards: int, eval_fraction: float, source: Path, quarantine: list[tuple[str, str]]) -> "HashBorders":
    """The borders of the parts in order of hash: eval first where there is one, then the shards."""
    import numpy as np

    from trainyard.data.shards import HashBorders, select_ranks, shard_edges

    hashes = [np.frombuffer(scan.hashes, np.uint64) for scan in scans]
    total = sum(map(len, hashes))
    limit = min(int(eval_fraction * 2**64), 2**64 - 1)
    held = sum(int((h < limit).sum()) for h in hashes) if eval_fraction else 0
    if total - held < shards:
        out = f"; left out: {len(quarantine):,} lines or files, such as {quarantine[0][0]} ({quarantine[0][1]})" if quarantine else ""
        raise DataError(f"{source}: {total - held} rows are left to train on; they cannot fill {shards} shards{out}")
    edges = shard_edges(total - held, shards)
    cuts = select_ranks(hashes, [held + edge for edge in edges[1:-1]])
    return HashBorders([(limit, 0), *cuts] if eval_fraction else cuts)


def _check_output(source: Path, paths: list[Path], output: Path) -> None:
    """Raise DataError where the output would become source or take its place, or where it has no room."""
    target = output.resolve()
    if source.is_dir() and target.is_relative_to(source.resolve()):
        raise DataError(f"{output}: lies in the source folder, and its shards would become source next time; give another --output")
    originals = (path.resolve() for path in paths)
    if any(path.parent == target and any(map(path.match, OWN)) for path in originals):
        raise DataError(f"{output}: its shards would take the place of the source; give another --output")
    strange = [p.name for pattern in OWN[:2] for p in output.glob(pattern)]
    if strange and not any((output / name).exists() for name in ("splits.json", WORK)):
        raise DataError(f"{output}: holds {strange[0]}, and no splits.json that says it may go; move it, or give another --output")
    need = sum(p.stat().st_size for p in paths)
    place = next(p for p in (output, *output.parents) if p.exists())
    if not place.is_dir():
        raise DataError(f"{place}: is a file; give a folder as --output")
    status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    if need > free:
        from trainyard.data.storage import size

        raise DataError(
            f"{output}: the shards need {size(need)}, {size(free)} are free: {size(need - free)} are missing; "
            "make room, or give another --output"
        )


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _describe(part: "Part") -> dict[str, Any]:
    return {"file": part.path.name, "rows": part.rows, "bytes": part.size, "xxh3": part.digest}


def _archive(work: Path, described: list[dict[str, Any]]) -> None:
    """A zip archive of each file: the same bytes from the same rows (its one entry has no time of its own)."""
    import shutil
    import zipfile
    from concurrent.futures import ThreadPoolExecutor

    from trainyard.data.files import sha256_file

    def archive(entry: dict[str, Any]) -> None:
        path = work / f"{entry['file']}.zip"
        info = zipfile.ZipInfo(entry["file"])
        info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
        with open(path, "wb") as out:
            with (
                zipfile.ZipFile(out, "w") as zipped,
                zipped.open(info, "w", force_zip64=True) as target,
                open(work / entry["file"], "rb") as rows,
            ):
                shutil.copyfileobj(rows, target, 1 << 20)
            out.flush()
            os.fsync(out.fileno())
        entry["zip_sha256"] = sha256_file(path)

    with ThreadPoolExecutor(max(1, int(usable_cores()))) as pool:
        list(pool.map(archive, described))


def _put_into_place(work: Path, output: Path) -> None:
    """Replace an earlier division; splits.json goes first and comes last."""
    for pattern in reversed(OWN):
        for old in output.glob(pattern):
            old.unlink()
    for path in sorted(work.iterdir(), key=lambda path: path.name == "splits.json"):
        os.replace(path, output / path.name)
