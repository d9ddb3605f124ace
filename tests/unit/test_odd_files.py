"""Odd files of every format through index, split and copy: what is kept, and what quarantine.csv says of the rest."""

import json
import re
import subprocess
import sys
from pathlib import Path

import odd_midi
import odd_wav
import pytest
from copy_runs import packed, refusals, run
from trainyard.data.lines import scan_rows
from trainyard.data.names import to_text

REPOSITORY = Path(__file__).resolve().parents[2]
AUDIO = {"format": "audio", "features": {"sample_rate": 8000, "seconds": 1.0, "n_fft": 256, "hop": 128, "mels": 16}}
NAMES = (
    "plain", " two  spaces ", "'single'", '"double"', "new\nline", "tab\t", "per%cent", "#hash",
    "caf\u00e9", "\udcff\udcfe", "-dash", "a;b,c",
)  # fmt: skip


@pytest.mark.parametrize(
    ("ending", "kept", "refused", "keys"),
    [(".wav", odd_wav.SAME, odd_wav.REFUSED, AUDIO), (".mid", odd_midi.ACCEPTED, odd_midi.REFUSED, {"format": "midi"})],
)
def test_every_odd_file_ends_in_a_decision(tmp_path, ending, kept, refused, keys):
    root = tmp_path / "root"
    root.mkdir()
    good, reasons = [], {}
    for i, (data, reason) in enumerate([*((data, None) for data in kept.values()), *refused.values()]):
        name = f"{i:02d}{NAMES[i % len(NAMES)]}{ending}"
        (root / name).write_bytes(data)
        if reason is None:
            good.append(to_text(name))
        else:
            reasons[to_text(name)] = reason if data else "empty file"
    place = {**dict.fromkeys([*good, *reasons], "train"), good[0]: "test", good[1]: "validation"}
    out, _ = run(root, {"suite": "s", "dataset": "d", **keys}, place, reader=None)
    found = refusals(out)
    assert set(packed(out)) == set(good) and set(found) == set(reasons)
    for name, reason in reasons.items():
        assert re.search(reason, found[name]), (name, found[name])


@pytest.mark.parametrize("indent", [1, 4])
def test_a_folder_of_json_files_has_a_row_a_file(tmp_path, indent):
    path = tmp_path / "a.json"
    path.write_text("\n" + json.dumps({"prompt": "a", "answer": {"b": [1, {"c": 2}]}}, indent=indent) + "\n")
    starts, sizes = scan_rows(path)
    assert len(starts) == 1 and json.loads(path.read_bytes()[starts[0] : starts[0] + sizes[0]])["prompt"] == "a"
    lines = tmp_path / "b.jsonl"
    lines.write_bytes(b'{"prompt": "half\n' + b'{"prompt": "a", "answer": "b"}\n' * 3)
    assert len(scan_rows(lines)[0]) == 4


def test_damaged_files_never_crash_the_commands():
    """The same as `python benchmarks/odd_files.py --files 1000`, with fewer."""
    script = str(REPOSITORY / "benchmarks" / "odd_files.py")
    command = [sys.executable, script, "--files", "100", "--seed", "7", "--formats", "audio", "midi", "video"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "damaged files: every one accepted or refused with a reason" in done.stdout
