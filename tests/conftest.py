"""One thread a test process: the machine has two cores, and more threads make sums differ. No deadlines: no test is about time."""

import os

from hypothesis import settings

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

settings.register_profile("house", deadline=None)
settings.load_profile("house")
