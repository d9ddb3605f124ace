"""Links that lead out, files that go or change between index and copy or while they are read, and what may not be read, one by one."""

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from copy_runs import SCRIPTS
from odd_inputs import AUDIO, Outcome, loudest, outcome, root_of, through, tone

WORLD: dict[str, str | None] = {  # decision of each file
    "link in.wav": None,
    "link out.wav": "^link out of the root is not followed: ",
    "turned into a link out.wav": "^a link out of the root, which is never followed$",
    "folder out/": "^link to a folder outside the root is not followed: ",
    "link to nothing.wav": "^link to nothing$",
    "vanished.wav": "^not there: no such file$",
    "emptied.wav": r"^empty file \(0 bytes\)$",
    "changes while it is read.wav": "^changed while it was read$",
    "changed before it was read.wav": None,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> tuple[Outcome, list[str]]:
    """What became of them, and every path below the folder outside of the root that was opened."""
    folder = tmp_path_factory.mktemp("world")
    files = {f"{name}.wav": tone(500 + 100 * i) for i, name in enumerate(("emptied", "vanished", "turned into a link out"))}
    files |= {f"sound{i}.wav": tone(150 + 20 * i) for i in range(3)}
    files |= {"changes while it is read.wav": tone(900), "changed before it was read.wav": tone(1000)}
    root = root_of(folder, files)
    (root / ".hidden").mkdir()
    (root / ".hidden" / "original").write_bytes(tone(2000))
    (root / "link in.wav").symlink_to(".hidden/original")
    outside = folder / "outside"
    outside.mkdir()
    (outside / "secret.wav").write_bytes(tone(3000))
    (root / "link out.wav").symlink_to("../outside/secret.wav")
    (root / "folder out").symlink_to("../outside")
    (root / "link to nothing.wav").symlink_to("missing.wav")
    opened: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        real_open, real_read = os.open, os.read

        def noting(path, *rest, **more):
            file = real_open(path, *rest, **more)
            opened.append(os.path.realpath(path))
            return file

        def growing(file: int, size: int) -> bytes:
            data = real_read(file, size)
            path = root / "changes while it is read.wav"
            if data and os.path.samestat(os.fstat(file), os.stat(path)):
                with open(path, "ab") as more:
                    more.write(b"more")
            return data

        patch.setattr(os, "open", noting)
        patch.setattr(os, "read", growing)

        def between() -> None:
            (root / "vanished.wav").unlink()
            (root / "emptied.wav").write_bytes(b"")
            (root / "turned into a link out.wav").unlink()
            (root / "turned into a link out.wav").symlink_to(outside / "secret.wav")
            (root / "changed before it was read.wav").write_bytes(tone(1500))

        found = through(root, AUDIO, between)
    return found, [path for path in opened if path.startswith(os.path.realpath(outside))]


@pytest.mark.parametrize("name", WORLD)
def test_the_world_may_change_and_links_may_lie(world: tuple[Outcome, list[str]], name: str) -> None:
    world[0].decision(name, WORLD[name])


def test_a_link_in_gives_its_target_and_a_changed_file_what_it_holds_now(world: tuple[Outcome, list[str]]) -> None:
    assert loudest(world[0], "link in.wav") == pytest.approx(2000, rel=0.05)
    assert loudest(world[0], "changed before it was read.wav") == pytest.approx(1500, rel=0.05)


def test_what_lies_outside_of_the_root_is_never_opened(world: tuple[Outcome, list[str]]) -> None:
    assert world[1] == []


def without_roots_rights() -> None:
    """In a child before it becomes another program: give up the right to read what modes forbid (CAP_DAC_OVERRIDE, _READ_SEARCH)."""
    for capability in (1, 2):
        if ctypes.CDLL(None, use_errno=True).prctl(24, capability, 0, 0, 0):  # PR_CAPBSET_DROP, linux/prctl.h
            os._exit(77)


def test_permission_denied(tmp_path: Path) -> None:
    root = root_of(tmp_path, {f"{i}.wav": tone(300 + 50 * i) for i in range(20)})
    (root / "locked").mkdir()
    (root / "locked" / "x.wav").write_bytes(tone(2000))
    (root / "3.wav").chmod(0)
    (root / "locked").chmod(0)
    out = {name: tmp_path / name for name in ("index", "splits", "splits.json", "packs")}
    keys = ["--settings", json.dumps(AUDIO)]
    lists = ["--quarantine", out["packs"] / "quarantine.csv", "--summary", out["packs"] / "summary.json"]
    copy = ["copy_to_local.py", "--root", root, "--index", out["index"], "--splits", out["splits"], "--output-dir", out["packs"], *lists]
    try:
        for script, *words in (
            ["index_dataset.py", "--root", root, "--output", out["index"]],
            ["split_dataset.py", "--index", out["index"], "--output", out["splits"], "--summary", out["splits.json"]],
            copy,
        ):
            drop = without_roots_rights if os.geteuid() == 0 else None
            command = [sys.executable, SCRIPTS / script, *words, *keys]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, preexec_fn=drop)
            if done.returncode == 77 and drop:
                pytest.skip("root here cannot give up its rights")
            assert done.returncode == 0, done.stderr
    finally:
        (root / "locked").chmod(0o755)
    found = outcome(out["packs"])
    found.decision("3.wav", "^permission denied$")
    found.decision("locked/", "^folder cannot be listed: Permission denied$")
    assert len(found.kept) == 19 and len(found.refused) == 2
