"""Videos of several cameras with the positions of the object they see: from .npz to the fields of a pack.

A sample is one .npz with `video` (cameras, frames, 3, h, w), uint8 or floats in 0..1, and `positions`
(frames + 1, 3), whose last row lies one step after the last frame. Files come from anywhere, so every claim of
theirs is checked before memory is given to it, and nothing is unpickled.
"""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from trainyard.config.features import VideoFeatures
from trainyard.data.refused import Refused

MAX_BYTES = 512 * 2**20  # decoded bytes of one array
MAX_ENTRIES = 64  # arrays of one file
MAX_HEADER = 10_000  # characters of an array's header, numpy's own limit


class VideoReader:
    """Turns the bytes of an .npz into the pack fields video (cameras, frames, 3, size, size), uint8, and positions
    (frames + 1, 3), float32: the first cameras and frames of a longer sample, the pixels averaged over whole squares.

    context["fields"] may give other names for `video` and `positions`. Raises ValueError for other keys there.
    """

    def __init__(self, features: VideoFeatures, root: Path, context: dict[str, Any]):
        self.features = features
        fields = context.get("fields") or {}
        unknown = sorted(set(fields) - {"video", "positions", "path"})
        if unknown:
            raise ValueError(f"fields: unknown key '{unknown[0]}'; videos know video, positions and path")
        self.video, self.positions = fields.get("video", "video"), fields.get("positions", "positions")

    def read(self, blobs: list[bytes], sample: dict[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray | str]]:
        arrays = read_arrays(blobs[0], (self.video, self.positions))
        video, positions = arrays[self.video], arrays[self.positions]
        return {"video": self._video(video), "positions": self._positions(positions, video.shape[1])}, {}

    def sample_bytes(self) -> int:
        """Bytes of a packed video, without its positions."""
        return self.features.cameras * self.features.frames * 3 * self.features.size**2

    def meta(self) -> dict[str, Any]:
        return {"axes": {"video": "camera, frame, colour, row, column", "positions": "step, coordinate"}}

    def _video(self, video: np.ndarray) -> np.ndarray:
        want = self.features
        if video.ndim != 5 or video.shape[2] != 3:
            raise Refused(f"{self.video} has shape {video.shape}; expected (cameras, frames, 3, height, width)")
        cameras, frames, _, height, width = video.shape
        if cameras < want.cameras or frames < want.frames:
            raise Refused(f"{self.video} has {cameras} cameras and {frames} frames; features asks for {want.cameras} and {want.frames}")
        if height != width or height < want.size or height % want.size:
            raise Refused(
                f"{self.video} has {height} × {width} pixels; features.size asks for {want.size} or a whole multiple of it, square"
            )
        video = video[: want.cameras, : want.frames]
        if video.dtype.kind == "f":
            video = video.astype(np.float32)
            if not np.isfinite(video).all():
                raise Refused(f"{self.video} holds NaN or infinite values")
            if video.min() < 0 or video.max() > 1:
                raise Refused(f"{self.video} holds floats from {video.min():.4g} to {video.max():.4g}; expected 0 to 1")
            video = video * np.float32(255)
        elif video.dtype != np.uint8:
            raise Refused(f"{self.video} is of type {video.dtype}; expected uint8, or floats from 0 to 1")
        some = video[..., ::8, ::8]  # nearly always tells, and spares a look at all of them
        if (some == video.flat[0]).all() and (video == video.flat[0]).all():
            raise Refused(f"blank: every pixel of {self.video} has the same value")
        step = height // want.size
        if step > 1:
            squares = video.reshape(*video.shape[:3], want.size, step, want.size, step)
            video = squares.mean((4, 6), dtype=np.float32)
        return video if video.dtype == np.uint8 else np.rint(video).astype(np.uint8)

    def _positions(self, positions: np.ndarray, frames: int) -> np.ndarray:
        if positions.shape != (frames + 1, 3):
            raise Refused(f"{self.positions} has shape {positions.shape}; {frames} frames need ({frames + 1}, 3)")
        if positions.dtype.kind not in "fiu":
            raise Refused(f"{self.positions} is of type {positions.dtype}; expected numbers")
        with np.errstate(over="ignore"):
            positions = positions[: self.features.frames + 1].astype(np.float32)
        if not np.isfinite(positions).all():
            raise Refused(f"{self.positions} holds NaN or infinite values")
        return positions


def read_arrays(blob: bytes, names: tuple[str, ...], max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray]:
    """The named arrays of an .npz. Never unpickles; reads a header and judges it before it reads what follows.

    Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html. Raises Refused.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(blob)) as archive:
            inside = archive.namelist()
            if len(inside) > MAX_ENTRIES:
                raise Refused(f"holds {len(inside)} arrays; at most {MAX_ENTRIES} are expected")
            for name in names:
                if inside.count(f"{name}.npy") != 1:
                    found = ", ".join(repr(n.removesuffix(".npy")[:40]) for n in inside[:5]) or "nothing"
                    raise Refused(f"needs exactly one array '{name}'; it holds {found}")
            return {name: _read_array(archive, name, max_bytes) for name in names}
    except Refused:
        raise
    except Exception as error:  # zipfile, zlib and numpy's header parser know a dozen kinds of broken
        if blob.startswith(np.lib.format.MAGIC_PREFIX):
            raise Refused(f"an .npy, which holds one array; an .npz with {' and '.join(names)} is needed") from None
        if not blob.startswith(b"PK"):
            raise Refused(f"not an .npz: it begins with {blob[:4]!r}, not as a zip archive does") from None
        words = ascii(" ".join(str(error).split())[:80])[1:-1]
        raise Refused(f"an .npz that is cut off or damaged ({words or type(error).__name__})") from None


def _read_array(archive: zipfile.ZipFile, name: str, max_bytes: int) -> np.ndarray:
    with archive.open(f"{name}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise Refused(f"array '{name}' is of npy version {version}; 1.0 and 2.0 are known")
        width = 2 if version == (1, 0) else 4
        length = stream.read(width)
        if len(length) < width or (size := int.from_bytes(length, "little")) > MAX_HEADER:
            raise Refused(f"array '{name}' has no header of at most {MAX_HEADER} bytes")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_column, dtype = read(io.BytesIO(length + stream.read(size)), max_header_size=MAX_HEADER)
        if dtype.hasobject:
            raise Refused(f"array '{name}' holds Python objects (pickle), which are never loaded")
        need = dtype.itemsize
        for n in shape:
            need *= int(n)
        if min(shape, default=0) < 0 or need > max_bytes:
            raise Refused(
                f"array '{name}' claims shape {shape} of {dtype}, {need / 2**20:.0f} MB; at most {max_bytes / 2**20:.0f} MB are read"
            )
        # The claim is small enough to be met; a compressed entry that goes on behind it is not followed.
        data = stream.read(need + 1)
        if len(data) != need:
            raise Refused(f"array '{name}' has {'more' if len(data) > need else 'fewer'} bytes than its shape {shape} needs")
        return np.frombuffer(data, dtype).reshape(shape, order="F" if by_column else "C")
