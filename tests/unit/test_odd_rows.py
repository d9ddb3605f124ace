"""Odd songs, tables and JSONL lines, one by one. More MIDI files: odd_midi.py; more tables: test_tabular.py."""

import json
from pathlib import Path

import numpy as np
import odd_midi
import pytest
from odd_inputs import Outcome, root_of, through
from trainyard.data.midi import LOWEST
from trainyard.data.split_lines import split_lines


# ---- MIDI -------------------------------------------------------------------------------------------------------------
def tune(lowest: int) -> bytes:
    return b"".join(odd_midi.note(lowest + k) for k in range(8))


HOURS = odd_midi.note(40, 0, 0x0FFFFFF)
SONGS = {  # file, and the lowest pitch of the eight notes of each bar
    "type 0": (odd_midi.midi(tune(40)), [40]),
    "type 1": (odd_midi.midi(b"", tune(41), kind=1), [41]),
    "type 2": (odd_midi.midi(tune(42), tune(62), kind=2), [42, 62]),
    "a note that lasts for hours": (odd_midi.midi(tune(44) + HOURS), [44]),
}
NO_SONGS = {
    "no notes": (odd_midi.midi(b""), "^it has no notes$"),
    "type 2 without notes": (odd_midi.midi(b"", b"", kind=2), "^it has no notes$"),
    "ticks that overflow": (odd_midi.midi(odd_midi.note(60, 0x0FFFFFFF, 0x0FFFFFFF) * 6), "^its times overflow"),
    "its first note after all bars": (odd_midi.midi(odd_midi.note(61, 0x0FFFFFFF)), "^no note that can be used before bar"),
    "pitch above 127": (odd_midi.midi(b"\0\x90\xbc\x50\x18\x80\xbc\0" + tune(45)), "pitch of 188, which MIDI does not have"),
    "velocity above 127": (odd_midi.midi(b"\0\x90\x3c\xd0\x18\x80\x3c\0" + tune(46)), "velocity of 208, which MIDI does not have"),
}


@pytest.fixture(scope="module")
def songs(tmp_path_factory) -> Outcome:
    files = {f"{name}.mid": data for name, (data, _) in {**SONGS, **NO_SONGS}.items()}
    files |= {f"sound{i}.mid": odd_midi.midi(tune(50 + i)) for i in range(3)}
    return through(root_of(tmp_path_factory.mktemp("songs"), files), {"format": "midi"})


@pytest.mark.parametrize("name", SONGS)
def test_a_song_is_read_and_its_notes_are_in_the_pack(songs: Outcome, name: str) -> None:
    songs.decision(f"{name}.mid", None)
    pack, row = songs.kept[f"{name}.mid"]
    bars = SONGS[name][1]
    pitches = (pack.at("melody", row)[:8, 0] + LOWEST).tolist()
    assert pitches in [list(range(lowest, lowest + 8)) for lowest in bars]  # of type 2 the melody is one of its patterns
    for lowest, sounding in zip(bars, pack.at("chroma", row)):
        assert {(lowest + k) % 12 for k in range(8)} <= set(np.flatnonzero(sounding).tolist())


@pytest.mark.parametrize("name", NO_SONGS)
def test_what_is_no_song_is_refused(songs: Outcome, name: str) -> None:
    songs.decision(f"{name}.mid", NO_SONGS[name][1])


# ---- tables -----------------------------------------------------------------------------------------------------------
HEAD = "who,age,dose,sex,ill"
ROWS = [f"p{i},{20 + i * 7 % 31},{i / 8},{'mf'[i % 2]},{i // 2 % 2}" for i in range(40)]
TABLE = {"format": "tabular", "label": {"column": "ill"}, "group": {"column": "who"}}


def table(folder: Path, data: str | bytes, keys: dict | None = None) -> Outcome:
    root = root_of(folder, {"t.csv": data if isinstance(data, bytes) else data.encode()})
    return through(root, {**TABLE, **(keys or {})})


def lines(*more: str, head: str | None = HEAD, end: str = "\n") -> str:
    return end.join([*([head] if head else []), *ROWS, *more, ""])


SAME_TABLES: dict[str, str | bytes] = {
    "CRLF": lines(end="\r\n"),
    "a byte order mark": "\ufeff" + lines(),
    "trailing commas": lines().replace("\n", ",,\n"),
    "CRLF, a mark, trailing commas and empty lines at once": ("\ufeff" + lines().replace("\n", ",\r\n\r\n")).encode(),
    "no newline at the end": lines().rstrip("\n"),
}


@pytest.mark.parametrize("name", [*SAME_TABLES, "no header"])
def test_a_table_is_read_as_the_plain_one(tmp_path: Path, name: str) -> None:
    if name == "no header":
        found = table(tmp_path, lines(head=None), {"label": {"column": "column5"}, "group": {"column": "column1"}})
    else:
        found = table(tmp_path, SAME_TABLES[name])
    assert not found.refused and len(found.kept) == len(ROWS)
    for i, row in enumerate(ROWS):
        _, age, dose, sex, ill = row.split(",")
        assert found.fixed(f"t.csv#{i}", "numeric").tolist() == [float(age), float(dose)]
        assert found.fixed(f"t.csv#{i}", "category").tolist() == ["fm".index(sex)] and found.fixed(f"t.csv#{i}", "label") == int(ill)


ODD_ROWS: dict[str, tuple[str, str | None]] = {
    "a missing cell": ("p50,,1.5,f,1", None),
    "a missing label": ("p51,30,1.5,f,", "^no label: nothing in column 'ill'"),
    "every feature missing": ("p52,,NA,,1", "^every feature of this row is missing"),
    "a cell too few": ("p53,30,1.5,1", "^4 cells where the table has 5 columns"),
    "a cell too many": ("p54,30,1.5,f,1,9", "^6 cells where the table has 5 columns"),
    "a row that is there twice": (ROWS[0], "^same content as 't.csv#0'; one of them is enough$"),
    "a word among numbers": ("p56,thirty,1.5,f,1", "^column 'age': 'thirty' is not a number"),
    "a byte that is no UTF-8": ("p57,30,1.5,f,1", None),
}


@pytest.fixture(scope="module")
def odd_rows(tmp_path_factory) -> Outcome:
    text = lines(*(row for row, _ in ODD_ROWS.values())).encode()
    return table(tmp_path_factory.mktemp("rows"), text.replace(b"p57", b"p\xe4"))


@pytest.mark.parametrize("name", ODD_ROWS)
def test_an_odd_row_of_a_table(odd_rows: Outcome, name: str) -> None:
    at = len(ROWS) + list(ODD_ROWS).index(name)
    odd_rows.decision(f"t.csv#{at}", ODD_ROWS[name][1])
    if name == "a missing cell":
        np.testing.assert_array_equal(odd_rows.fixed(f"t.csv#{at}", "numeric"), [np.nan, 1.5])


# ---- JSONL ------------------------------------------------------------------------------------------------------------
def chat(prompt: str, answer: str = "b") -> bytes:
    return json.dumps({"prompt": prompt, "answer": answer}).encode()


FIFTY_MB = chat("fifty megabytes", "x" * 50_000_000)
ODD_LINES: dict[str, tuple[bytes, str | None]] = {  # a line and why it is refused; of those that are kept the prompt is their name
    "a half line": (b'{"prompt": "half", "ans', "^not JSON: Unterminated string"),
    "text behind the object": (chat("x") + b" more", "^not JSON: Extra data"),
    "NUL in a line": (b'{"prompt": "n\0l", "answer": "b"}', "^not JSON: Invalid control character"),
    "NUL in a text": (b'{"prompt": "n\\u0000l", "answer": "b"}', "^field 'prompt' holds a NUL character$"),
    "NUL alone": (b"\0\0\0", "^not JSON: "),
    "a line of 50 MB": (FIFTY_MB, r"^50000015 characters, more than max_chars \d+$"),
    "invalid UTF-8": (b'{"prompt": "\xff", "answer": "b"}', "^not UTF-8 text$"),
    "a key that is there twice": (b'{"prompt": "first", "prompt": "a key that is there twice", "answer": "b"}', None),
    "half of a surrogate pair": (b'{"prompt": "\\ud800", "answer": "b"}', "^field 'prompt' holds half of a surrogate pair"),
    "brackets without end": (b"[" * 50_000, "^not usable JSON: nested too deeply$"),
    "NaN": (b'{"prompt": "a", "answer": {"x": NaN}}', "^not JSON: NaN is Python's word"),
    "a number of 5000 digits": (b'{"prompt": "a", "answer": {"x": ' + b"9" * 5000 + b"}}", "^not JSON: Exceeds the limit"),
    "a list": (b"[1, 2]", "^a JSON object was expected, found list$"),
    "null": (b"null", "^a JSON object was expected, found NoneType$"),
    "spaces around": (b"  " + chat("spaces around") + b"\t ", None),
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Outcome:
    """A mark at the beginning, CRLF, empty lines and no newline at the end, all in one."""
    lines = [*(chat(f"question {i}") for i in range(20)), b"", b"  ", *(line for line, _ in ODD_LINES.values()), chat("last")]
    return through(root_of(tmp_path_factory.mktemp("lines"), {"x.jsonl": b"\xef\xbb\xbf" + b"\r\n".join(lines)}), {"format": "chat"})


@pytest.mark.parametrize("name", ODD_LINES)
def test_an_odd_line(rows: Outcome, name: str) -> None:
    id, reason = f"x.jsonl#{20 + list(ODD_LINES).index(name)}", ODD_LINES[name][1]
    rows.decision(id, reason)
    if reason is None:
        pack, row = rows.kept[id]
        assert pack.text("prompt", row) == name


def test_marks_carriage_returns_and_empty_lines_are_no_part_of_a_row(rows: Outcome) -> None:
    prompts = {pack.text("prompt", row) for pack, row in rows.kept.values()}
    assert prompts >= {f"question {i}" for i in range(20)} | {"last"} and len(rows.kept) + len(rows.refused) == 21 + len(ODD_LINES)


def test_a_line_of_50_mb_is_kept_by_the_split_by_itself(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(b"\n".join([*(chat(str(i)) for i in range(9)), FIFTY_MB]))
    split_lines(tmp_path / "x.jsonl", tmp_path / "out", 2, 0.0)
    written = [(tmp_path / "out" / f"shard-0{i}.jsonl").read_bytes().split(b"\n")[:-1] for i in (1, 2)]
    assert [len(rows) for rows in written] == [5, 5] and sum(row == FIFTY_MB for rows in written for row in rows) == 1
