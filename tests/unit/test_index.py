"""The index: what is listed, what is never followed, how labels and groups are found."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from indexed import index, touch
from trainyard.config.base import ConfigError
from trainyard.data.errors import DataError
from trainyard.data.names import from_text, to_text
from trainyard.data.stamp import data_stamp
from trainyard.data.walk import compile_globs

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"


def good(columns: dict[str, list], name: str = "path") -> list:
    return [value for value, reason in zip(columns[name], columns["refused"]) if reason is None]


@given(st.binary(min_size=1, max_size=12).filter(lambda b: b"/" not in b and b"\0" not in b))
def test_any_file_name_can_be_written_and_found_again(name: bytes) -> None:
    shown = to_text(os.fsdecode(name))
    shown.encode("utf-8")
    assert os.fsencode(from_text(shown)) == name


def test_a_name_with_an_escape_in_it_is_not_mistaken_for_one() -> None:
    assert to_text(r"a\xff") != to_text(os.fsdecode(b"a\xff"))
    assert from_text(to_text(r"a\xff\x5c\\")) == r"a\xff\x5c\\"


@pytest.mark.parametrize(
    ("pattern", "fits", "fits_not"),
    [
        ("**/*.wav", ["a.wav", "b/c/a.wav", "n\nl.wav"], ["a.mp3", "a.wav/b"]),
        ("*.wav", ["a.wav"], ["b/a.wav"]),
        ("a/**/b?.mid", ["a/b1.mid", "a/x/y/b2.mid"], ["a/b12.mid", "x/a/b1.mid"]),
        ("data/**", ["data/x", "data/x/y"], ["other/x"]),
        ("[!a]*.csv", ["b.csv", "^.csv"], ["a.csv"]),
        ("x[1].json", ["x1.json"], ["x[1].json"]),
    ],
)
def test_globs(pattern: str, fits: list[str], fits_not: list[str]) -> None:
    test = compile_globs([pattern])
    assert [p for p in fits + fits_not if test(p)] == fits


def test_odd_names_hidden_files_links_and_empty_files(tmp_path: Path) -> None:
    root = touch(tmp_path / "root", "a b.wav", 'q"uo,te.wav', "new\nline.wav", "sub/deep/x.WAV", ".hidden.wav", ".git/y.wav", "notes.txt")
    touch(tmp_path, "outside.wav", "elsewhere/z.wav")
    (root / os.fsdecode(b"b\xe4d.wav")).write_bytes(b"x")
    (root / "zero.wav").write_bytes(b"")
    (root / "inside.wav").symlink_to("a b.wav")
    (root / "out.wav").symlink_to("../outside.wav")
    (root / "nothing.wav").symlink_to("missing")
    (root / "away").symlink_to("../elsewhere")
    (root / "loop").symlink_to(".")
    os.mkfifo(root / "pipe.wav")
    columns, _ = index(root, format="audio")
    assert good(columns) == sorted(["a b.wav", 'q"uo,te.wav', "new\nline.wav", "sub/deep/x.WAV", r"b\xe4d.wav", "inside.wav"])
    reasons = {p: r for p, r in zip(columns["path"], columns["refused"]) if r is not None}
    assert set(reasons) == {"zero.wav", "out.wav", "nothing.wav", "away/", "pipe.wav"}
    assert "empty" in reasons["zero.wav"] and "out of the root" in reasons["out.wav"] and "outside the root" in reasons["away/"]
    assert len(set(columns["id"])) == len(columns["id"])


def test_no_sample_file_is_opened(tmp_path: Path) -> None:
    root = touch(tmp_path / "root", "a.wav", "b/c.wav")
    code = f"""
import sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
from trainyard.data.index import build_index, typed_dataset
from pathlib import Path
assert len(build_index(Path({str(root)!r}), typed_dataset({{"format": "audio"}}))) == 2
print([name for name in opened if name.endswith(".wav")], "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "[] False"


def test_pattern_is_searched_in_names_and_with_a_slash_in_paths(tmp_path: Path) -> None:
    root = touch(tmp_path / "root", "wav/03a02Fc.wav", "wav/16b03Nb.wav")
    columns, _ = index(root, format="audio", label={"pattern": "^.{5}(.)", "map": {"F": "joy"}}, group={"pattern": "^(..)"})
    assert columns["label"] == ["joy", "N"] and columns["group"] == ["03", "16"]
    columns, meta = index(root, format="audio", group={"pattern": r"^(\w+)/"})
    assert columns["group"] == ["wav", "wav"] and meta["groups_known"]


def test_pattern_that_fits_no_name_is_searched_in_whole_paths(tmp_path: Path) -> None:
    root = touch(tmp_path / "root", "Alto-1#Song/0000.wav", "Bass-2#Song/0001.wav")
    assert index(root, format="audio", group={"pattern": "^([^#]+)#"})[0]["group"] == ["Alto-1", "Bass-2"]


def test_a_sample_without_label_or_group_is_refused_not_guessed(tmp_path: Path) -> None:
    root = touch(tmp_path / "root", "joy/a_1.wav", "joy/b.wav", "c_3.wav")
    columns, _ = index(root, format="audio", label={"parent": 1}, group={"pattern": r"_(\d)"})
    assert good(columns) == ["joy/a_1.wav"]
    reasons = dict(zip(columns["path"], columns["refused"]))
    assert "group" in reasons["joy/b.wav"] and "label" in reasons["c_3.wav"]


def test_rule_that_finds_nothing_says_so(tmp_path: Path) -> None:
    root = touch(tmp_path / "root", "a.wav")
    with pytest.raises(DataError, match=r"label.pattern 'x\(y\)' fits none of the 1 samples, such as 'a.wav'"):
        index(root, format="audio", label={"pattern": "x(y)"})


def test_nothing_found_says_what_is_there_and_what_to_do(tmp_path: Path) -> None:
    root = touch(tmp_path / "root", "sub/a.mid", "b.txt")
    with pytest.raises(DataError, match=r"no midi sample.*fit \*.mid.*1 .txt, 1 .mid.*try glob '\*\*/\*.mid'"):
        index(root, format="midi", glob="*.mid")
    with pytest.raises(DataError, match="no such file or folder"):
        index(tmp_path / "missing", format="midi")


@pytest.mark.parametrize(
    "values",
    [
        ["Alto-1#A/0000.wav", "Alto-1#A/0001.wav"], ["Alto-1#A/0000", "Alto-1#A/0001"], ["Alto-1#A#0000", "Alto-1#A#0001"],
        ["./Alto-1#A/0000.wav", "ROOT/Alto-1#A/0001.wav"], ["0000.wav", "0001"], ["Alto-1#A\\0000.wav", "Alto-1#A\\0001.wav"],
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["list", "lines", "csv", "keyed"])
def test_annotations_join_files(tmp_path: Path, values: list[str], kind: str) -> None:
    root = touch(tmp_path / "root", "Alto-1#A/0000.wav", "Alto-1#A/0001.wav")
    values = [v.replace("ROOT", str(root)) for v in values]
    rows = [{"name": v, "emotion": e, "by": {"who": "x"}} for v, e in zip(values, ("joy", "calm"))]
    if kind == "csv":
        text = "name,emotion\r\n" + "".join(f"{r['name']},{r['emotion']}\r\n" for r in rows)
    elif kind == "keyed":
        text = json.dumps({r["name"]: {"emotion": r["emotion"]} for r in rows})
    else:
        text = json.dumps(rows, indent=2) if kind == "list" else "\n".join(map(json.dumps, rows))
    name = "meta.csv" if kind == "csv" else "meta.json"
    (root / name).write_text(text)
    key = "path" if kind == "keyed" else "name"
    rule = {"column": "emotion"} if kind == "csv" else {"field": "emotion"}
    columns, _ = index(root, format="audio", annotations=name, fields={"path": key}, label=rule)
    assert columns["label"] == ["joy", "calm"] and columns["path"] == ["Alto-1#A/0000.wav", "Alto-1#A/0001.wav"]


@pytest.mark.parametrize(("name", "text", "key"), [
    ("m.txt", "a.wav\tjoy\ne\u0301.wav\tcalm\n", "column1"),  # no header: names of files are no headings
    ("m.csv", "file,feeling\na.wav,joy\n\u00e9.wav,calm\n", "file"),  # é in one letter, in the file's name in two
    ("m.json", json.dumps([{"audio": {"path": "a.wav"}, "feeling": "joy"}, {"audio": {"path": "é.wav"}, "feeling": "calm"}]), "audio.path"),
])  # fmt: skip
def test_annotations_as_other_tools_write_them(tmp_path: Path, name: str, text: str, key: str) -> None:
    root = touch(tmp_path / "root", "a.wav", "e\u0301.wav")
    (root / name).write_text(text, encoding="utf-8")
    label = {"column": "column2" if key == "column1" else "feeling"}
    columns, meta = index(root, format="audio", annotations=name, fields={"path": key}, label=label)
    assert columns["label"] == ["joy", "calm"] and meta["notes"] == []


def test_file_without_annotation_is_refused_and_lost_rows_are_counted(tmp_path: Path) -> None:
    root = touch(tmp_path / "root", "a.wav", "b.wav")
    (root / "m.jsonl").write_text('{"path": "a.wav", "x": {"y": true}}\n{"path": "gone.wav"}\nnot json\n')
    columns, meta = index(root, format="audio", annotations="m.jsonl", label={"field": "x.y"})
    assert good(columns) == ["a.wav"] and columns["label"] == ["true", None]
    assert any("gone.wav" in note for note in meta["notes"])
    with pytest.raises(DataError, match="did you mean 'path'"):
        index(root, format="audio", annotations="m.jsonl", fields={"path": "pth"})


def test_paired_has_a_row_an_annotation(tmp_path: Path) -> None:
    root = touch(tmp_path / "root", "audio/a.wav", "midi/a.mid")
    rows = [{"audio": "audio/a.wav", "midi": "midi/a.mid", "player": "p1"}, {"audio": "audio/b.wav", "midi": "midi/b.mid", "player": "p2"}]
    touch(root, "ann/x.jsonl", data=b"\n".join(json.dumps(r).encode() for r in rows) + b'\n{"half": \n')
    columns, _ = index(root, format="paired", annotations="ann/x.jsonl", group={"field": "player"})
    assert columns["id"] == ["audio/a.wav", "audio/b.wav", "ann/x.jsonl#2"] and columns["group"][:2] == ["p1", "p2"]
    assert json.loads(columns["extra"][1])["midi"] == "midi/b.mid" and "not JSON" in columns["refused"][2]


def test_table_has_a_row_a_sample(tmp_path: Path) -> None:
    root = touch(tmp_path / "root", "t.csv", data=b"\xef\xbb\xbfpatient,age,sick\r\np1,50,1\r\np1,51,\r\np2,60,0,,9\r\np3,61,0\r\n")
    columns, _ = index(root, format="tabular", label={"column": "sick"}, group={"column": "patient"})
    assert columns["label"] == ["1", None, None, "0"] and list(columns["row"]) == [0, 1, 2, 3]
    assert "no label" in columns["refused"][1] and "cells" in columns["refused"][2]
    assert columns["group"][3] == "p3" and json.loads(columns["extra"][0]) == {"patient": "p1", "age": "50", "sick": "1"}
    assert index(root / "t.csv", format="tabular")[0]["id"][0] == "t.csv#0"
    with pytest.raises(DataError, match="2 tables"):
        index(touch(root, "u.csv", data=b"a,b\n1,2\n"), format="tabular")


@pytest.mark.parametrize("glob", ["[z-a].mid", "", [], ["*.mid", ""]])
def test_a_pattern_that_means_nothing_is_a_mistake_in_the_settings(tmp_path: Path, glob) -> None:
    with pytest.raises(ConfigError, match="settings: glob: "):
        index(touch(tmp_path, "a.mid"), format="midi", glob=glob)


def test_a_paired_row_may_name_its_files_in_nested_fields(tmp_path: Path) -> None:
    root = touch(tmp_path / "root", *(f"{i}.{kind}" for i in range(2) for kind in ("wav", "mid")))
    rows = [{"files": {"wav": f"{i}.wav", "mid": f"{i}.mid"}} for i in range(2)]
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns, _ = index(root, format="paired", annotations="rows.jsonl", fields={"audio": "files.wav", "midi": "files.mid"})
    assert columns["path"] == ["0.wav", "1.wav"]


def test_a_missing_cell_is_no_class_unless_it_is_given_a_name(tmp_path: Path) -> None:
    root = touch(tmp_path / "root", "t.csv", data=b"age,sick\n50,1\n51,NA\n52,?\n53,0\n54,none\n")
    columns, _ = index(root, format="tabular", label={"column": "sick"})
    assert columns["label"] == ["1", None, None, "0", "none"] and "no label" in columns["refused"][2]
    columns, _ = index(root, format="tabular", label={"column": "sick", "map": {"NA": "unknown"}})
    assert columns["label"] == ["1", "unknown", None, "0", "none"]


def test_subset_is_by_hash_and_nested(tmp_path: Path) -> None:
    root = touch(tmp_path / "root", *(f"{i}.mid" for i in range(40)))
    small, large = (set(index(root, format="midi", subset_size=n)[0]["id"]) for n in (10, 20))
    assert len(small) == 10 and small < large
    assert set(index(root, format="midi", subset_size=10, seed=1)[0]["id"]) != small


def test_command_prints_one_line_for_a_mistake(tmp_path: Path) -> None:
    command = [
        sys.executable,
        SCRIPTS / "index_dataset.py",
        "--root",
        tmp_path,
        "--settings",
        '{"format": "audio"}',
        "--output",
        tmp_path / "i",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


def test_the_stamp_of_data_changes_with_what_can_be_a_sample(tmp_path: Path) -> None:
    root = touch(tmp_path / "root", "a.wav", "deep/b.wav")
    before = data_stamp(root)
    touch(root, ".DS_Store", "deep/.~lock", ".git/c.wav")
    assert data_stamp(root) == before
    root.rename(tmp_path / "elsewhere")
    assert data_stamp(tmp_path / "elsewhere") == before
    touch(tmp_path / "elsewhere", "deep/c.wav")
    assert data_stamp(tmp_path / "elsewhere") != before
