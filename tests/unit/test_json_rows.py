"""Rows of JSONL, JSON lists and folders of JSON files: found by byte offset, none lost, and what is no row said."""

import gzip
import json
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from indexed import index, touch
from trainyard.data.errors import DataError
from trainyard.data.lines import scan_rows

CHAT = [{"q": "one", "n": {"who": "a"}}, {"q": 'brace } and "quote" \\" [', "n": {"who": "b"}}, {"q": "été", "n": {"who": "a"}}]


@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
@pytest.mark.parametrize("text", ["\n".join(json.dumps(r) for r in CHAT), json.dumps(CHAT), json.dumps(CHAT, indent=3, ensure_ascii=False),
                                  "\ufeff" + "\r\n\r\n".join(json.dumps(r, ensure_ascii=False) for r in CHAT) + "\r\n"])  # fmt: skip
def test_chat_rows_by_offset(tmp_path: Path, name: str, text: str) -> None:
    root = touch(tmp_path / "root", name, data=text.encode())
    columns, _ = index(root, format="chat", group={"field": "n.who"})
    data = (root / name).read_bytes()
    assert [json.loads(data[o : o + n]) for o, n in zip(columns["row"], columns["size"])] == CHAT
    assert columns["group"] == ["a", "b", "a"] and columns["id"] == [f"{name}#{i}" for i in range(3)]


@pytest.mark.parametrize(("text", "rows"), [
    ('[{"a": 1}, "b", {"c": 2}]', ['{"a": 1}', '"b"', '{"c": 2}']), ('\ufeff[1, 2,\n 3]\n', ["1, 2,\n 3"]),
    ('[{"a": 1},\n]\n\n', ['{"a": 1}']), ('[{"a": 1}] behind', ['{"a": 1}', "behind"]), ("[]", []),
])  # fmt: skip
def test_what_is_no_object_in_an_array_is_a_row_that_will_be_refused(tmp_path: Path, text: str, rows: list[str]) -> None:
    (tmp_path / "x.json").write_text(text)
    data = (tmp_path / "x.json").read_bytes()
    assert [data[a : a + n].decode() for a, n in zip(*scan_rows(tmp_path / "x.json"))] == rows


@pytest.mark.parametrize(("data", "words"), [
    (gzip.compress(b'{"q": "one"}\n'), "a gzip archive: unpack it"), (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    (b"<!DOCTYPE html>\n<html>404</html>", "a web page"), ('{"q": "é"}'.encode("utf-16"), "UTF-16"), (b" \n[]", "no rows"),
])  # fmt: skip
def test_a_file_without_rows_is_refused_once_and_says_what_it_is(tmp_path: Path, data: bytes, words: str) -> None:
    root = touch(tmp_path / "root", "a.jsonl", data=b'{"q": "one"}\n{"q": "two"}\n')
    touch(root, "b.json", data=data)
    columns, _ = index(root, format="chat")
    assert columns["id"] == ["a.jsonl#0", "a.jsonl#1", "b.json"] and words in columns["refused"][2]


@pytest.mark.parametrize("indent", [None, 2])
def test_rows_inside_one_object_are_not_guessed(tmp_path: Path, indent: int | None) -> None:
    root = touch(tmp_path / "root", "x.json", data=json.dumps({"version": 1, "data": CHAT}, indent=indent).encode())
    with pytest.raises(DataError, match="its keys: 'version', 'data'"):
        index(root, format="chat")


def test_a_single_row_that_is_no_row_says_why(tmp_path: Path) -> None:
    root = touch(tmp_path / "root", "x.json", data=b'["one", "two"]')
    with pytest.raises(DataError, match="one row, and it is not usable: not JSON: Extra data"):
        index(root, format="chat")


def test_array_that_breaks_off_leaves_a_row_that_will_be_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('[{"a": 1}, {"a": {"b": "2')
    starts, sizes = scan_rows(tmp_path / "x.json")
    assert starts.tolist() == [1, 11] and sizes[0] == 8


@given(st.lists(st.text(string.printable + "é\0", max_size=30), max_size=20), st.booleans())
def test_scan_rows_finds_every_line_that_holds_something(tmp_path_factory, lines: list[str], newline: bool) -> None:
    lines = ["{" + x.replace("\n", " ").replace("\r", " ") for x in lines]
    path = tmp_path_factory.mktemp("rows") / "x.jsonl"
    path.write_bytes("\n\n".join(lines).encode() + (b"\n" if newline and lines else b""))
    data = path.read_bytes()
    assert [data[a : a + n].decode() for a, n in zip(*(x.tolist() for x in scan_rows(path)))] == lines


def test_lines_longer_than_a_block(tmp_path: Path, monkeypatch) -> None:
    import trainyard.data.lines as lines

    rows = [b"x" * n for n in (5, 300_000, 1, 70_000, 200_000)]
    (tmp_path / "x").write_bytes(b"\n".join(rows))
    monkeypatch.setattr(lines, "BLOCK", 1 << 12)
    monkeypatch.setattr(lines.line_blocks, "__defaults__", (1 << 12,))
    starts, sizes = scan_rows(tmp_path / "x")
    data = (tmp_path / "x").read_bytes()
    assert [data[a : a + n] for a, n in zip(starts, sizes)] == rows
