"""What a baseline returns. Baselines are fitted on the training rows only, without torch."""

from dataclasses import dataclass

import numpy as np

from trainyard.data.predictions import PartOutput


@dataclass(frozen=True)
class Baseline:
    """Predictions of one baseline for items of a split.

    level "trivial": no input is looked at (majority, mean, unigram, last value); "simple": what a person tries in
    ten minutes (logistic regression on feature statistics, n-gram, linear). `parts` has the model's part names.
    """

    level: str
    name: str
    items: np.ndarray
    parts: dict[str, PartOutput]
