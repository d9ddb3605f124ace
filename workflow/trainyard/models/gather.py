"""Rows of a pack's field as a batch."""

import warnings

import numpy as np
import torch
from torch import Tensor

# The tensor over a mapped file lives for one call, which reads it.
warnings.filterwarnings("ignore", "The given NumPy array is not writable")


def gather(field: np.ndarray, rows: np.ndarray) -> Tensor:
    """Rows (k,) of a field (n, …), mapped or in memory, as a tensor (k, …) of its own.

    The copy is shared out among torch's threads: one core alone does not fill the memory's bandwidth. Raises IndexError.
    """
    return torch.from_numpy(field).index_select(0, torch.from_numpy(np.ascontiguousarray(rows, np.int64)))
