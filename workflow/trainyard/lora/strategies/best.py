"""The one adapter of the lowest validation loss, as it is; the first of equals."""

import numpy as np

from trainyard.lora.adapter_config import AdapterError
from trainyard.lora.strategies.known import Known


def shares(known: Known) -> np.ndarray:
    if known.weights is not None:
        raise AdapterError("weights were given, but the strategy is 'best'; use --strategy weighted")
    return np.eye(known.count)[int(known.known_losses().argmin())]
