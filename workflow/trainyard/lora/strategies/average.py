"""The plain mean of the updates: every adapter counts the same (task arithmetic, arXiv:2212.04089, at 1 / K)."""

import numpy as np

from trainyard.lora.adapter_config import AdapterError
from trainyard.lora.strategies.known import Known


def shares(known: Known) -> np.ndarray:
    if known.weights is not None:
        raise AdapterError("weights were given, but the strategy is 'average'; use --strategy weighted")
    return known.equal()
