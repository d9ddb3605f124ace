"""The number types of adapter files in numpy, which has no bfloat16: its 16 bits are the upper half of a float32."""

import numpy as np

from trainyard.data.tensors import DTYPES

FLOATS = ("F32", "F16", "BF16", "F64")
# What a result may be stored in, by its name for people.
OUTPUT = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
NAMES = {**{stored: name for name, stored in OUTPUT.items()}, "F64": "float64"}


def decode(raw: np.ndarray, stored: str) -> np.ndarray:
    """Stored numbers as float32 (float64 stays); exact."""
    if stored == "BF16":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw if stored == "F64" else raw.astype(np.float32, copy=False)


def encode(values: np.ndarray, stored: str) -> np.ndarray:
    """Numbers rounded to the nearest (ties to even) of the stored type, contiguous. Raises ValueError for what does not fit."""
    try:
        with np.errstate(over="raise"):
            small: np.ndarray = np.ascontiguousarray(values, np.float32 if stored == "BF16" else DTYPES[stored])
    except FloatingPointError:
        raise ValueError(f"a value of {np.abs(values).max():.3g} does not fit in {NAMES[stored]}; use --dtype float32") from None
    if stored != "BF16":
        return small
    bits = small.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
