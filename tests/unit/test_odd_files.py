"""Odd files of every format through index, split and copy: what is kept, and what quarantine.csv says of the rest."""

import json
import re
import subprocess
import sys
from pathlib import Path

import odd_midi
import odd_wav
import pytest
from test_copy import packed, refusals, run
from trainyard.data.chat import ChatPack
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


def test_odd_rows_end_in_a_decision(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    good = [json.dumps({"prompt": f"{i}", "answer": "yes"}).encode() for i in range(20)]
    long = json.dumps({"prompt": "long", "answer": "x" * (9 << 20)}).encode()  # longer than a block of the reader
    odd = [
        b'{"prompt": "half", "ans', b'{"prompt": "n\0l", "answer": "b"}', b'{"prompt": "\xff", "answer": "b"}', long,
        b'{"prompt": "\\ud800", "answer": "b"}', b"[" * 50_000, b'{"prompt": "a", "answer": {"x": NaN}}',
        b'{"prompt": "a", "answer": {"x": ' + b"9" * 5000 + b"}}", b"[1, 2]", b"null",
    ]  # fmt: skip
    twice = b'{"prompt": "first", "prompt": "second", "answer": "b"}'
    (root / "rows.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join([*good, b"", b"  ", *odd, twice]))
    out, _ = run(root, {"suite": "s", "dataset": "d", "format": "chat"}, reader=None)
    words = ("Unterminated", "Invalid control", "not UTF-8", "characters, more than", "surrogate", "nested too deeply", "NaN", "Exceeds",
             "found list", "found NoneType")  # fmt: skip
    reasons = refusals(out)
    assert len(reasons) == len(odd)
    for (_, reason), word in zip(sorted(reasons.items()), words):
        assert word in reason
    prompts = [prompt for name in ("train", "validation", "test") for prompt in ChatPack(out / f"{name}.jsonl").texts("prompt")]
    assert sorted(prompts) == sorted([*map(str, range(20)), "second"])  # of a key that is there twice the last counts


@pytest.mark.parametrize("indent", [1, 4])
def test_a_folder_of_json_files_has_a_row_a_file(tmp_path, indent):
    path = tmp_path / "a.json"
    path.write_text("\n" + json.dumps({"prompt": "a", "answer": {"b": [1, {"c": 2}]}}, indent=indent) + "\n")
    starts, sizes = scan_rows(path)
    assert len(starts) == 1 and json.loads(path.read_bytes()[starts[0] : starts[0] + sizes[0]])["prompt"] == "a"
    lines = tmp_path / "b.jsonl"
    lines.write_bytes(b'{"prompt": "half\n' + b'{"prompt": "a", "answer": "b"}\n' * 3)
    assert len(scan_rows(lines)[0]) == 4


def test_odd_rows_of_a_table_end_in_a_decision(tmp_path):
    rows = [f"p{i},{i * 7 % 31},{'mf'[i % 2]},{i % 2}" for i in range(40)]
    odd = ["p40,12o,f,1", "p41,3,f", "p42,3,f,1,9", "p43,,,1", rows[0], 'p44,"3\n1",f,0']
    root = tmp_path / "root"
    root.mkdir()
    (root / "t.csv").write_bytes("\ufeffwho,age,sex,ill\r\n".encode() + "\r\n".join([*rows, *odd, "", "p45,,f,0"]).encode() + b"\r\n\r\n")
    keys = {"suite": "s", "dataset": "d", "format": "tabular", "label": {"column": "ill"}, "group": {"column": "who"}}
    out, _ = run(root, keys, reader=None)
    words = ("'12o' is not a number", "3 cells", "5 cells", "every feature of this row is missing", "same content", "is not a number")
    reasons = refusals(out)
    assert len(reasons) == len(odd)
    for (_, reason), word in zip(sorted(reasons.items()), words):
        assert word in reason
    assert len(packed(out)) == 41


def test_damaged_files_never_crash_the_commands():
    """The same as `python benchmarks/odd_files.py --files 1000`, with fewer."""
    script = str(REPOSITORY / "benchmarks" / "odd_files.py")
    command = [sys.executable, script, "--files", "100", "--seed", "7", "--formats", "audio", "midi", "video"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "damaged files: every one accepted or refused with a reason" in done.stdout
