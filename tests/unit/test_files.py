"""Files that take the place of others: whole or not at all, and nothing of a killed process stays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from trainyard.data.copy_folder import put_into_place
from trainyard.data.files import beside, output_folder, replacing, write_text

KILLED = """
import os, signal, sys
from pathlib import Path
from trainyard.data.files import output_folder, replacing
with (output_folder if sys.argv[2] == "folder" else replacing)(sys.argv[1]) as temporary:
    (temporary / "part" if sys.argv[2] == "folder" else temporary).write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("name", ["x.json", "ä" * 120])
def test_what_a_killed_process_left_is_gone_after_the_next(tmp_path: Path, kind: str, name: str) -> None:
    target = tmp_path / name
    subprocess.run([sys.executable, "-c", KILLED, str(target), kind], timeout=60)
    assert len(list(tmp_path.iterdir())) == 1 and not target.exists()
    if kind == "folder":
        with output_folder(target) as folder:
            (folder / "a").write_text("whole")
        assert [p.name for p in target.iterdir()] == ["a"]
    else:
        write_text(target, "whole")
        assert target.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [target]


def test_what_others_are_at_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    own = beside(target)
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    prefix = own.name[: -len(f"{os.getpid()}.tmp")]
    others = [
        f"{prefix}{sleeper.pid}.tmp",
        f".x.json.0badcafe-{2**22 - 1}.tmp",
        f"{prefix}no number.tmp",
        f".y.json{prefix[7:]}4194303.tmp",
    ]
    try:
        for name in others:
            (tmp_path / name).write_text("theirs")
        write_text(target, "ours")
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*others, "x.json"])
    finally:
        sleeper.kill()
        sleeper.wait()
    write_text(target, "ours")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*others[1:], "x.json"])


def test_a_copy_that_was_killed_between_two_packs_leaves_no_second_name_of_one(tmp_path: Path) -> None:
    """Renaming a file to another name of the same file does nothing at all."""
    work, output = tmp_path / "packs" / ".copy", tmp_path / "packs"
    work.mkdir(parents=True)
    for name in ("test.jsonl", "train.jsonl", "summary.json"):
        (work / name).write_text(name)
    os.link(work / "test.jsonl", output / "test.jsonl")  # as far as the killed one came
    put_into_place(work, output, ["test.jsonl", "train.jsonl"], {"summary.json": str(output / "summary.json")})
    assert sorted(p.name for p in output.iterdir()) == [".copy", "summary.json", "test.jsonl", "train.jsonl"]


def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("before")
    with pytest.raises(RuntimeError), replacing(tmp_path / "x") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [p.read_text() for p in tmp_path.iterdir()] == ["before"]
