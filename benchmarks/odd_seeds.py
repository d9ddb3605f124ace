"""Files for odd_files.py: whole ones of every variety that a writer here can make, real ones, and how they are damaged."""

import contextlib
import io
import json
import random
from pathlib import Path

import numpy as np
from trainyard.data.walk import SUFFIXES

SOUND = 40  # undamaged files beside the damaged ones, so that every split keeps something


def damaged(rng: random.Random, seeds: list[bytes]) -> bytes:
    """One of the seeds, damaged in one or two ways."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.randint(1, 2)):
        if not data:
            break
        head = rng.random() < 0.5  # headers are where the claims are
        at = rng.randrange(min(len(data), 200) if head else len(data))
        match rng.randrange(8):
            case 0:
                for _ in range(rng.randint(1, 8)):
                    data[rng.randrange(min(len(data), 200) if head else len(data))] ^= 1 << rng.randrange(8)
            case 1:
                del data[at:]
            case 2:  # a length, a count or a rate
                value = rng.choice((0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, rng.getrandbits(32)))
                width = rng.choice((1, 2, 4))
                data[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, rng.choice(("little", "big")))
            case 3:
                other = rng.choice(seeds)
                data[at:] = other[rng.randrange(len(other)) :]
            case 4:
                data[at:at] = rng.randbytes(rng.randint(1, 64))
            case 5:
                size = rng.randint(1, 512)
                data[at : at + size] = bytes(len(data[at : at + size]))
            case 6:
                size = rng.randint(1, 64)
                data[at : at + size] = rng.randbytes(len(data[at : at + size]))
            case 7:
                size = rng.randint(1, 256)
                data[at:at] = data[at : at + size]
    return bytes(data)


def real(kind: str, folders: list[Path]) -> list[bytes]:
    """Real files of a format, those of up to 2 MB."""
    found = [p for folder in folders for p in sorted(folder.rglob("*")) if p.is_file() and p.name.lower().endswith(SUFFIXES[kind])]
    return [p.read_bytes() for p in found if 0 < p.stat().st_size <= 2 << 20]


def sound(kind: str) -> list[bytes]:
    """Whole files, each different from the others."""
    if kind == "audio":
        return [audio(np.random.default_rng(100 + i), "WAV", "PCM_16") for i in range(SOUND)]
    if kind == "midi":
        from trainyard.data.generate import lakh

        return [lakh.encode(lakh.compose(np.random.default_rng(100 + i), 4)) for i in range(SOUND)]
    if kind == "video":
        return [video(np.random.default_rng(100 + i)) for i in range(SOUND)]
    return [b"".join(chat_row(1000 + i) for i in range(SOUND))]


def made(kind: str) -> list[bytes]:
    """Whole files of every variety that a writer here can make."""
    rng = np.random.default_rng(0)
    if kind == "audio":
        import soundfile

        kinds = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "FLAC", "OGG", "MP3", "CAF")
        out = []
        for container, subtype in [(k, s) for k in kinds for s in soundfile.available_subtypes(k)]:
            with contextlib.suppress(soundfile.LibsndfileError):  # some take one channel only
                out.append(audio(rng, container, subtype))
        return out
    if kind == "midi":
        from trainyard.data.generate import lakh

        return [lakh.encode(lakh.compose(np.random.default_rng(i), 4)) for i in range(8)]
    if kind == "video":
        return [video(rng, np.savez), video(rng, np.savez_compressed)]
    if kind == "chat":
        rows = b"".join(chat_row(i) for i in range(12))
        return [rows, b"\xef\xbb\xbf" + rows, rows.replace(b"\n", b"\r\n"), b"[" + rows.strip().replace(b"\n", b",\n") + b"]"]
    plain = table(",")
    others = [table(";"), table("\t"), b"\xef\xbb\xbf" + plain, plain.replace(b"\n", b"\r\n"), plain.decode().encode("utf-16")]
    return [plain, *others]


def audio(rng: np.random.Generator, kind: str, subtype: str) -> bytes:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, rng.uniform(-0.5, 0.5, (4000, int(rng.integers(1, 3)))), 8000, format=kind, subtype=subtype)
    return file.getvalue()


def video(rng: np.random.Generator, save=np.savez) -> bytes:
    file = io.BytesIO()
    save(file, video=rng.integers(0, 256, (1, 2, 3, 16, 16), dtype=np.uint8), positions=rng.normal(size=(3, 3)).astype(np.float32))
    return file.getvalue()


def chat_row(i: int) -> bytes:
    return json.dumps({"prompt": f"what is {i} and {i}", "answer": {"sum": 2 * i}}).encode() + b"\n"


def table(delimiter: str) -> bytes:
    rng = random.Random(1)
    rows = [["name", "age", "dose", "sex", "status"]]
    rows += [[f"p{i}", str(rng.randint(20, 90)), f"{rng.random():.4f}", rng.choice("mf"), rng.choice("01")] for i in range(60)]
    return "".join(delimiter.join(row) + "\n" for row in rows).encode()
