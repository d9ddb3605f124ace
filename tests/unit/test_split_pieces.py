"""A division in pieces by several processes: what one would write, by the shortest program that says so; and nothing half-written
stays when one of them ends."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trainyard.data.row_scan as row_scan
import trainyard.data.row_writer as row_writer
import trainyard.data.split_lines as module
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from test_split_lines import SCRIPTS, make
from trainyard.data.errors import DataError
from trainyard.data.shards import shard_edges
from trainyard.data.split_lines import split_lines


def divided(files: list[bytes], shards: int, fraction: float, seed: int) -> tuple[dict[str, bytes], list[str]]:
    """What the files of a division should hold, and the lines it should name, by the shortest program that says so."""
    rows, refused = [], []
    for number, data in enumerate(files):
        for n, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").removesuffix(b"\n").split(b"\n"), 1):
            text = line.strip()
            if text.startswith(b"{") and text.endswith(b"}"):
                rows.append((xxhash.xxh3_64_intdigest(line.removesuffix(b"\r"), seed), line + b"\n"))
            elif text:
                refused.append(f"{number}.jsonl:{n}")
    held = [hash_ < int(fraction * 2**64) for hash_, _ in rows]
    order = sorted((i for i in range(len(rows)) if not held[i]), key=lambda i: rows[i][0])
    edges = shard_edges(len(order), shards)
    parts = {f"shard-{k + 1:02d}.jsonl": sorted(order[edges[k] : edges[k + 1]]) for k in range(shards)}
    if fraction:
        parts["eval.jsonl"] = [i for i, side in enumerate(held) if side]
    return {name: b"".join(rows[i][1] for i in part) for name, part in parts.items()}, refused


row_bytes = st.integers(0, 60).map(lambda i: b'{"id": %d, "text": "%s"}' % (i, b"x" * (i * 37 % 300)))
odd_bytes = st.lists(st.sampled_from([b"{", b"}", b" ", b"\t", b"\r", b"\0", b"a", b"\xef\xbb\xbf", b"\x0b"]), max_size=5).map(b"".join)
line_ends = st.sampled_from([b"\n", b"\n", b"\n", b"\r\n", b"\r\r\n", b"\n\n"])
mixed_files = st.lists(st.tuples(st.one_of(row_bytes, row_bytes, odd_bytes), line_ends).map(b"".join), max_size=40)
even_files = st.builds(lambda rows, end: [row + end for row in rows], st.lists(row_bytes, max_size=40), line_ends)
files_strategy = st.lists(
    st.builds(
        lambda lines, mark, cut: mark + b"".join(lines)[: -1 if cut else None],
        st.one_of(mixed_files, even_files), st.sampled_from([b"", b"", b"\xef\xbb\xbf"]), st.booleans(),
    ),
    min_size=1, max_size=4,
)  # fmt: skip


@given(
    files_strategy, st.integers(1, 4), st.sampled_from([0.0, 0.1, 0.5]), st.sampled_from([0, 2**64 - 1]),
    st.sampled_from([1, 60, 1000, 1 << 20]), st.sampled_from([1, 7, 300, 1 << 20]), st.integers(1, 4),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_any_files_in_any_pieces_by_any_workers(tmp_path_factory, files, shards, fraction, seed, piece, block, workers) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "in").mkdir()
    for number, data in enumerate(files):
        (folder / "in" / f"{number}.jsonl").write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_scan, "PIECE", piece)
        patch.setattr(row_scan, "READ", block)
        patch.setattr(row_writer, "BLOCK", block)
        patch.setattr(module, "MAX_WORKERS", workers)
        patch.setattr(module, "usable_cores", lambda: workers)
        try:
            result = split_lines(folder / "in", folder / "out", shards, fraction, seed)
        except DataError as error:
            assert "cannot fill" in str(error) or "holds no file" in str(error)
            return
    expected, refused = divided(files, shards, fraction, seed)
    assert {p.name: p.read_bytes() for p in (folder / "out").glob("*.jsonl")} == expected
    assert {f["file"]: (f["rows"], f["bytes"], f["xxh3"]) for f in result.summary["files"]} == {
        name: (data.count(b"\n"), len(data), xxhash.xxh3_128_hexdigest(data)) for name, data in expected.items()
    }
    named = []
    if result.refused:
        with open(folder / "out" / "quarantine.csv", newline="") as file:
            named = [row["path"] for row in csv.DictReader(file) if "empty file" not in row["reason"]]
    assert named == refused


def command_in_pieces(source: Path, output: Path, meanwhile: str = "", pieces: int = 3000) -> subprocess.Popen:
    """The command in a process of its own, as it would divide a large file: in pieces, by three processes."""
    code = f"""
import os, runpy, signal, sys, time
import trainyard.data.row_scan as row_scan
import trainyard.data.split_lines as module
row_scan.PIECE, row_scan.READ = {pieces}, 500
module.usable_cores = lambda: 3
parent = os.getpid()
{meanwhile}
sys.argv = ["split_dataset.py", "--source", {str(source)!r}, "--output", {str(output)!r}, "--shards", "3", "--eval-fraction", "0.1"]
runpy.run_path({str(SCRIPTS / "split_dataset.py")!r}, run_name="__main__")
"""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )


forks = pytest.mark.skipif(sys.platform != "linux", reason="one process elsewhere")
WRITER = """
import trainyard.data.row_writer as row_writer
write = row_writer._write_piece
def hook(*args):
    {}
    write(*args)
row_writer._write_piece = hook
"""


@forks
def test_processes_write_what_one_does(tmp_path: Path) -> None:
    make(tmp_path / "x.jsonl", range(5000), "no row")
    count = WRITER.format(f"open({str(tmp_path)!r} + f'/pid {{os.getpid()}}', 'w').close(); time.sleep(0.01)")
    process = command_in_pieces(tmp_path / "x.jsonl", tmp_path / "several", count)
    assert process.communicate(timeout=60)[1] == "" and process.returncode == 0
    split_lines(tmp_path / "x.jsonl", tmp_path / "one", 3, 0.1)
    one, several = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("one", "several"))
    assert one == several and len(list(tmp_path.glob("pid *"))) == 3


@forks
@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("os.getpid() == parent or os.kill(os.getpid(), signal.SIGKILL)", "error: a helper process was killed (SIGKILL): out of memory?"),
        ("if os.getpid() != parent: raise OSError(28, 'No space left on device')", "error: No space left on device"),
        ("if os.getpid() == parent: raise OSError(28, 'No space left on device')", "error: No space left on device"),
        ("open(args[0][0], 'w').close()", "became shorter while it was divided"),
        ("open(args[0][0], 'r+').write('{{}}' + chr(10) * 5)", "changed while it was divided"),
        ("open(args[0][0], 'r+').write('x')", "changed while it was divided"),
    ],
)
def test_what_goes_wrong_in_a_process_leaves_the_earlier_division(tmp_path: Path, does: str, says: str) -> None:
    make(tmp_path / "x.jsonl", range(4000))
    split_lines(tmp_path / "x.jsonl", tmp_path / "out", 3, 0.1)
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    make(tmp_path / "x.jsonl", range(5000))
    process = command_in_pieces(tmp_path / "x.jsonl", tmp_path / "out", WRITER.format(f"time.sleep(0.01)\n    {does}"))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and says in err and "Traceback" not in err, err
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before


@forks
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_kill_in_the_middle_leaves_nothing_in_place_and_the_next_run_is_right(tmp_path: Path, how: signal.Signals) -> None:
    make(tmp_path / "x.jsonl", range(5000))
    process = command_in_pieces(tmp_path / "x.jsonl", tmp_path / "out", WRITER.format(r"os.write(1, b'writes\n'); time.sleep(0.02)"))
    assert process.stdout is not None and process.stdout.readline() == "writes\n"
    process.send_signal(how)
    _, err = process.communicate(timeout=60)  # until the helpers, who have the same pipes, are gone too
    assert process.returncode == (130 if how == signal.SIGINT else -how) and err == ""
    assert not [p for p in (tmp_path / "out").iterdir() if p.name != ".split"]
    split_lines(tmp_path / "x.jsonl", tmp_path / "out", 3, 0.1)
    split_lines(tmp_path / "x.jsonl", tmp_path / "whole", 3, 0.1)
    again, whole = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("out", "whole"))
    assert again == whole
