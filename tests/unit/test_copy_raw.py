"""Raw files copied by hand: annotations rewritten, gone on with, never into themselves."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from copy_runs import SCRIPTS
from trainyard.data.errors import DataError


# ---- raw files, by itself ---------------------------------------------------------------------------------------------
def raw(tmp_path: Path) -> Path:
    source = tmp_path / "My Drive"
    for i in range(8):
        (source / "audio").mkdir(parents=True, exist_ok=True)
        (source / "audio" / f"f {i}.wav").write_bytes(bytes([i]) * (100 + i))
    rows = [{"audio_path": f"/elsewhere/My Drive/audio/f {i}.wav", "also": f"audio/f {i}.wav", "note": "audio"} for i in range(6)]
    (source / "ann").mkdir()
    (source / "ann" / "train.jsonl").write_text("\n".join(map(json.dumps, [*rows, {"audio_path": "/elsewhere/gone.wav"}])))
    return source


def copy_raw(source: Path, local: Path, *more: str) -> str:
    command = [sys.executable, SCRIPTS / "copy_to_local.py", "--source", source, "--local-root", local, *more]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_raw_copy_rewrites_annotations_and_goes_on_where_it_was(tmp_path: Path) -> None:
    source, local = raw(tmp_path), tmp_path / "local"
    copy_raw(source, local, "--annotations", "ann/train.jsonl", "--subset", "--subset-size", "3")
    rows = [json.loads(line) for line in (local / "ann" / "train.jsonl").read_text().splitlines()]
    assert len(rows) == 3
    assert "6 rows" in copy_raw(source, local, "--annotations", "ann/train.jsonl").replace("7 rows", "6 rows")
    rows = [json.loads(line) for line in (local / "ann" / "train.jsonl").read_text().splitlines()]
    named = [r for r in rows if "also" in r]
    assert len(named) == 6
    for row in named:
        assert Path(row["audio_path"]).read_bytes() == (source / row["also"]).read_bytes() and row["audio_path"].startswith(str(local))
        assert row["note"] == "audio" and (local / row["also"]).is_file()
    assert not (local / "audio" / "f 7.wav").exists()
    times = {p.name: p.stat().st_ino for p in (local / "audio").iterdir()}
    (source / "audio" / "f 2.wav").write_bytes(b"changed")
    out = copy_raw(source, local, "--annotations", "ann/train.jsonl")
    assert out.startswith("1 files copied, 5 already there")
    assert (local / "audio" / "f 2.wav").read_bytes() == b"changed"
    assert {p.name for p in (local / "audio").iterdir() if p.stat().st_ino != times[p.name]} <= {"f 2.wav"}


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("a.csv", "file;mark;share\nC:\\their\\data\\w\\a.wav;x;1,5\n", ["file;mark;share", "LOCAL/w/a.wav;x;1,5"]),
        ("a.txt", "$data/w/a.wav\tjoy\nhttps://host/w/b\u00e9.wav\tcalm\n", ["LOCAL/w/a.wav\tjoy", "LOCAL/w/be\u0301.wav\tcalm"]),
    ],
)
def test_a_table_of_annotations_is_written_as_it_was(tmp_path: Path, name: str, text: str, lines: list[str]) -> None:
    source, local = tmp_path / "source", tmp_path / "local"
    (source / "w").mkdir(parents=True)
    for file in ("a.wav", "be\u0301.wav"):
        (source / "w" / file).write_bytes(file.encode())
    (source / name).write_text(text, encoding="utf-8")
    copy_raw(source, local, "--annotations", name)
    assert (local / name).read_text(encoding="utf-8").replace(str(local), "LOCAL").splitlines() == lines


def test_raw_copy_into_itself_is_refused(tmp_path: Path) -> None:
    from trainyard.data.mirror import mirror

    source = raw(tmp_path)
    with pytest.raises(DataError, match="inside each other"):
        mirror(source, source / "copy", [], None, 0, 4, 1 << 20)
