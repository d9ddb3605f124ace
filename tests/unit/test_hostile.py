"""Files made to harm, as the public corpora of hostile pickles and archives have them: refused by reason, and never run."""

import ast
import io
import json
import os
import pickle
import stat
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save
from trainyard.data.pack import Pack, PackError
from trainyard.data.refused import Refused
from trainyard.data.tensors import TensorFileError, read_header
from trainyard.data.video import read_arrays
from trainyard.lora.adapter import Adapter, AdapterError

HOME = Path(__file__).parents[2]
GOOD = save({"a": np.ones((2, 3), np.float32), "b": np.zeros(4, np.float32)})


class Bomb:
    """A pickle of it makes the file `ran` when it is opened."""

    def __init__(self, ran: Path):
        self.ran = ran

    def __reduce__(self):
        return os.mkdir, (str(self.ran),)


def lying(change) -> bytes:
    """GOOD with another header."""
    (length,) = struct.unpack("<Q", GOOD[:8])
    header = json.loads(GOOD[8 : 8 + length])
    return raw(json.dumps(change(header) or header).encode(), GOOD[8 + length :])


def raw(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def zipped(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def moved(**places):
    return lambda h: [h[n].update(data_offsets=p) for n, p in places.items()] and None


HOSTILE = {
    "pickle": (lambda ran: pickle.dumps(Bomb(ran)), "a pickle"),
    "old pickle": (lambda ran: pickle.dumps(Bomb(ran), protocol=0), "claims"),
    "torch.save": (lambda ran: zipped({"archive/data.pkl": pickle.dumps(Bomb(ran))}), "a zip archive"),
    "npy of objects": (lambda ran: b"\x93NUMPY\x01\x00" + pickle.dumps(Bomb(ran)), "a numpy array"),
    "picture": (lambda _: b"\x89PNG\r\n\x1a\n" + bytes(60), "claims"),
    "program": (lambda _: b"\x7fELF\x02\x01\x01" + bytes(60), "claims"),
    "gzip": (lambda _: b"\x1f\x8b\x08\x00" + bytes(60), "a gzip archive"),
    "lfs pointer": (lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
    "polyglot with a zip behind": (lambda ran: GOOD + zipped({"data.pkl": pickle.dumps(Bomb(ran))}), "bytes behind its last tensor"),
    "polyglot with a pickle between": (lambda _: lying(moved(b=[32, 48])) + bytes(8), "bytes before it"),
    "shared bytes": (lambda _: lying(moved(b=[8, 24])), "shares bytes"),
    "same bytes": (lambda _: lying(lambda h: h.update(c=h["a"])), "shares bytes"),
    "header of 2^60": (lambda _: struct.pack("<Q", 1 << 60) + b"{}", f"claims {1 << 60} bytes"),
    "header longer than the file": (lambda _: struct.pack("<Q", len(GOOD)) + GOOD[8:], "claims"),
    "deep header": (lambda _: raw(b"[" * 100_000), "not JSON"),
    "huge number": (lambda _: raw(b'{"a": ' + b"9" * 5000 + b"}"), "not JSON"),
    "name twice": (lambda _: raw(b'{"a": 1, "a": 2}'), "twice"),
    "not a number": (lambda _: raw(b'{"a": NaN}'), "not JSON"),
    "not UTF-8": (lambda _: raw(b'{"\xff": 1}'), "not JSON"),
    "blank before the header": (lambda _: raw(b" {}"), "not a JSON object"),
    "metadata of objects": (lambda _: raw(b'{"__metadata__": {"a": {"b": 1}}}'), "metadata"),
    "overflowing shape": (lambda _: lying(lambda h: h["a"].update(shape=[1 << 33, 1 << 33])), "another size"),
    "negative shape": (lambda _: lying(lambda h: h["a"].update(shape=[-2, -3])), "does not know"),
    "shape of truths": (lambda _: lying(lambda h: h["a"].update(shape=[True, 6])), "does not know"),
    "offsets outside": (lambda _: lying(moved(b=[24, 1 << 40])), "another size"),
    "offsets of a fraction": (lambda _: lying(moved(a=[0, 24.0])), "does not know"),
    "unknown type": (lambda _: lying(lambda h: h["a"].update(dtype="O")), "does not know"),
    "type of no text": (lambda _: lying(lambda h: h["a"].update(dtype=["F32"])), "does not know"),
    "truncated": (lambda _: GOOD[:-1], "truncated"),
    "empty": (lambda _: b"", "not a whole"),
}


def no_adapter(folder: Path, data: bytes) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q"]}')
    (folder / "adapter_model.safetensors").write_bytes(data)
    return folder


@pytest.mark.parametrize("name", HOSTILE)
def test_no_door_opens_to_it(tmp_path, name):
    make, words = HOSTILE[name]
    data = make(tmp_path / "ran")
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(TensorFileError, match=words) as found:
        read_header(path)
    assert str(path) in str(found.value) and "\n" not in str(found.value)
    with pytest.raises(PackError, match=words):
        Pack(path)
    with pytest.raises(AdapterError, match=words):
        Adapter(no_adapter(tmp_path / "adapter", data))
    with pytest.raises(Refused):
        read_arrays(data, ("frames",))
    assert not (tmp_path / "ran").exists()


def test_the_same_file_unharmed_is_read(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(GOOD)
    assert {n: e.shape for n, e in read_header(path).tensors.items()} == {"a": (2, 3), "b": (4,)}


def test_a_pipe_a_folder_and_a_missing_file_do_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(TensorFileError, match="regular"):
        read_header(tmp_path / "pipe.safetensors")
    for path in (tmp_path, tmp_path / "gone.safetensors"):
        with pytest.raises((OSError, TensorFileError)):
            read_header(path)


@pytest.mark.parametrize("name", ["pickle", "torch.save", "shared bytes", "polyglot with a zip behind"])
def test_base_models_of_pickles_or_code_are_refused(tmp_path, name):
    from trainyard.lora.load import load_base

    data = HOSTILE[name][0](tmp_path / "ran")
    config = {"model_type": "llama", "auto_map": {"AutoModelForCausalLM": "evil.Model"}, "architectures": ["LlamaForCausalLM"]}
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps(config))
    (base / "evil.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\n")
    (base / "pytorch_model.bin").write_bytes(data)
    with pytest.raises(ValueError, match="a pickle, which could run any code"):
        load_base(str(base))
    (base / "model.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match="model.safetensors"):
        load_base(str(base))
    assert not (tmp_path / "ran").exists()


def npz(**arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def spoiled_crc() -> bytes:
    data = bytearray(npz(frames=np.zeros((8, 8), np.uint8)))
    at = data.index(b"PK\x01\x02") + 16
    data[at] ^= 1
    return bytes(data)


def linked() -> bytes:
    """An archive whose array is a symbolic link, as Unix archives have them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo("frames.npy")
        entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    return buffer.getvalue()


def shared_offset() -> bytes:
    """Two entries of the directory that are one and the same bytes: how small archives become terabytes."""
    frames, other = npz(frames=np.zeros(4)), npz(others=np.zeros(4))
    data, more = frames[: frames.index(b"PK\x01\x02")], other[other.index(b"PK\x01\x02") : other.index(b"PK\x05\x06")]
    directory = frames[frames.index(b"PK\x01\x02") : frames.index(b"PK\x05\x06")] + more.replace(b"others", b"frames")
    return data + directory + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 2, 2, len(directory), len(data), 0)


def npy_header(size: int) -> bytes:
    """An array whose header claims so many bytes."""
    return zipped({"frames.npy": b"\x93NUMPY\x02\x00" + struct.pack("<L", size) + b"{}"})


def two_headers() -> bytes:
    """An entry whose name in the directory is not that before its bytes: readers of a stream see another file."""
    return npz(frames=np.zeros(4)).replace(b"frames.npy", b"harmless!!", 1)


def test_archives_of_arrays_are_refused_by_reason(tmp_path):
    objects = npz(frames=np.array([Bomb(tmp_path / "ran")], dtype=object))
    up = zipped({"../../frames.npy": b"x", "frames.npy": b"\x80\x04."})
    for data, words in [
        (objects, "Python objects"),
        (spoiled_crc(), "damaged .*CRC"),
        (up, "damaged"),
        (npz(frames=np.zeros((1, 1 << 22), np.uint8)), "at most"),
        (zipped({f"{i}.npy": b"" for i in range(2000)}), "arrays; at most"),
        (GOOD, "not an .npz"),
        (linked(), "damaged"),
        (shared_offset(), "exactly one array 'frames'"),
        (two_headers(), "damaged"),
        (npy_header(1 << 31), "no header of at most"),
        (npz(frames=np.zeros(4))[:-30], "cut off or damaged"),
        (b"RIFF" + bytes(40), "not an .npz"),
    ]:
        with pytest.raises(Refused, match=words):
            read_arrays(data, ("frames",), max_bytes=1 << 20)
    assert not (tmp_path / "ran").exists() and not (tmp_path.parent / "frames.npy").exists()


def unsafe_calls(source: str) -> list[str]:
    """Names in a source that could open a pickle or run what a file holds."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name.split(".")[0] for alias in node.names} | {(getattr(node, "module", None) or "").split(".")[0]}
            found += sorted(names & {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"})
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
        if called in ("torch.load", "torch.jit.load", "torch.hub.load", "torch.package.PackageImporter", "eval", "exec", "yaml.load"):
            found.append(called)
        if called.endswith(("read_pickle", "to_pickle", "unpickle", "extractall", ".extract", "unsafe_load", "full_load")):
            found.append(called)
        if keywords.get("allow_pickle", "False") != "False" or keywords.get("trust_remote_code", "False") != "False":
            found.append(f"{called} with what runs code")
        if called == "np.load" and "allow_pickle" not in keywords:
            found.append("np.load that does not say allow_pickle=False")
        if called.endswith(".from_pretrained") and "AutoModel" in called and not {"use_safetensors", None} & keywords.keys():
            found.append(f"{called} without use_safetensors")
    return found


ALLOWED = {
    # A .pt file a sample is the rival that packs are measured against: written and read by that benchmark itself.
    "benchmarks/batches.py": ["torch.load"],
    # What a fork of the same process sends it, over a pipe between the two.
    "workflow/trainyard/data/fork.py": ["marshal"],
    # On a host that jobs are sent to: the plugin's own sources, which the controller sent over ssh with it.
    "workflow/snakemake_executor_plugin_ssh/host/loader.py": ["exec"],
}


def test_nothing_in_the_tree_opens_what_could_run():
    sources = [*(HOME / "workflow").rglob("*.py"), *(HOME / "benchmarks").glob("*.py"), *(HOME / "rules").glob("*.smk")]
    assert len(sources) > 100
    for path in sources:
        if path.suffix == ".py":
            assert unsafe_calls(path.read_text(encoding="utf-8")) == ALLOWED.get(str(path.relative_to(HOME)), []), path
        else:
            assert "pickle" not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from joblib import load", "torch.load(f, weights_only=True)", "np.load(f)", "np.load(f, allow_pickle=True)",
     "eval(x)", "AutoModelForCausalLM.from_pretrained(b)", "tarfile.open(f).extractall()",
     "AutoTokenizer.from_pretrained(b, trust_remote_code=True)"],
)  # fmt: skip
def test_the_look_through_the_tree_finds_them(source):
    assert unsafe_calls(source)
