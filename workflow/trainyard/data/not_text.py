"""Files that are no text under the name of a text file, told by their first bytes."""

WRAPPED = {
    b"\x1f\x8b": "a gzip archive: unpack it",
    b"PK\x03\x04": "a zip archive or a spreadsheet: unpack it, or export it as text",
    b"BZh": "a bzip2 archive: unpack it",
    b"\xfd7zXZ": "an xz archive: unpack it",
    b"\x28\xb5\x2f\xfd": "a zstd archive: unpack it",
    b"PAR1": "a Parquet file: export it as text",
    b"version https://git-lfs": "a Git LFS pointer: fetch the file itself with `git lfs pull`",
}
PAGES = (b"<!doctype", b"<html")


def what_instead(head: bytes) -> str | None:
    """What a file is that begins with these bytes, and what to do with it; None where it may be text."""
    if head.lstrip()[:9].lower().startswith(PAGES):
        return "a web page: fetch the file itself"
    return next((words for first, words in WRAPPED.items() if head.startswith(first)), None)
