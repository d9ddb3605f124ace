"""Annotations beside a raw copy: rewritten in the form that they have, only there, and only rows whose files are there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from copy_runs import SCRIPTS
from trainyard.data.errors import DataError
from trainyard.data.mirror import mirror


def source(tmp_path: Path, name: str, text: str) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.wav").write_bytes(bytes([i]) * 100)
    (folder / "empty.wav").touch()
    (folder / name).write_text(text, newline="")
    return folder


def copy(tmp_path: Path, annotations: str, *more: str) -> subprocess.CompletedProcess:
    where = ["--source", "data", "--local-root", "local", "--annotations", annotations]
    command = [sys.executable, SCRIPTS / "copy_to_local.py", *where, *more]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)


@pytest.mark.parametrize("given", ["rows.jsonl", "data/rows.jsonl", "./data/rows.jsonl", "{}/data/rows.jsonl"])
def test_however_the_file_is_named_the_original_stays(tmp_path: Path, given: str) -> None:
    rows = '{"audio": "0.wav"}\n{"audio": "/elsewhere/data/1.wav"}\n{"half\n'
    folder = source(tmp_path, "rows.jsonl", rows)
    done = copy(tmp_path, given.format(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (folder / "rows.jsonl").read_text() == rows
    written = [json.loads(line)["audio"] for line in (tmp_path / "local" / "rows.jsonl").read_text().splitlines()]
    assert written == ["0.wav", str(tmp_path / "local" / "1.wav")]


def test_a_file_that_lies_elsewhere_is_refused_and_left_alone(tmp_path: Path) -> None:
    folder = source(tmp_path, "rows.jsonl", '{"audio": "0.wav"}\n')
    other = tmp_path / "other.jsonl"
    other.write_text('{"audio": "1.wav"}\n')
    for given in ("other.jsonl", "../other.jsonl", str(other), "gone.jsonl"):
        done = copy(tmp_path, given)
        assert done.returncode == 1 and "no such file of annotations below data" in done.stderr, given
    with pytest.raises(DataError, match="no such file of annotations"):
        mirror(folder, tmp_path / "local", [str(other)], None, 0, 2, 1 << 20)
    assert other.read_text() == '{"audio": "1.wav"}\n' and not (tmp_path / "local").exists()


def test_a_row_whose_file_was_refused_is_left_out(tmp_path: Path) -> None:
    source(tmp_path, "rows.jsonl", '{"audio": "0.wav"}\n{"audio": "empty.wav"}\n')
    assert "1 rows" in copy(tmp_path, "rows.jsonl").stdout
    assert "row with 'empty.wav',left out: empty file" in (tmp_path / "local" / "quarantine.csv").read_text()


def test_an_object_of_rows_stays_one(tmp_path: Path) -> None:
    source(tmp_path, "rows.json", json.dumps({"0.wav": {"x": 1}, "/old/data/1.wav": {"x": 2, "path": "1.wav"}, "empty.wav": {"x": 3}}))
    assert copy(tmp_path, "rows.json").returncode == 0
    written = json.loads((tmp_path / "local" / "rows.json").read_text())
    assert written == {"0.wav": {"x": 1}, str(tmp_path / "local" / "1.wav"): {"x": 2, "path": "1.wav"}}


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("audio\tx\r\n/old/data/0.wav\t3,5\r\n1.wav\t4\r\n", "audio\tx\n{}/local/0.wav\t3,5\n1.wav\t4\n"),
        ("/old/data/0.wav,1,2\n1.wav,3,4\n", "{}/local/0.wav,1,2\n1.wav,3,4\n"),
        ("audio;x\nempty.wav;1\n0.wav;2\n", "audio;x\n0.wav;2\n"),
    ],
)
def test_a_table_keeps_its_delimiter_and_gets_no_header(tmp_path: Path, text: str, written: str) -> None:
    source(tmp_path, "rows.tsv", text)
    assert copy(tmp_path, "rows.tsv").returncode == 0
    assert (tmp_path / "local" / "rows.tsv").read_text() == written.format(tmp_path)


def test_what_is_no_text_is_written_as_json_writes_it(tmp_path: Path) -> None:
    source(tmp_path, "rows.jsonl", '{"audio": "0.wav", "note": "\\ud800"}\n')
    done = copy(tmp_path, "rows.jsonl")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "local" / "rows.jsonl").read_text()) == {"audio": "0.wav", "note": "\ud800"}


def test_a_size_is_enough_for_a_subset(tmp_path: Path) -> None:
    source(tmp_path, "rows.jsonl", "".join(f'{{"audio": "{i}.wav"}}\n' for i in range(3)))
    assert "2 rows" in copy(tmp_path, "rows.jsonl", "--subset-size", "2").stdout
