"""A cap of memory in the config: a batch that does not fit is divided, and the training learns the same."""

import json
import shutil
import sys

import pytest
from workflow_runs import snakemake, table

CONFIG = ("suites=mono_to_3d", "only=i3d", "epochs=1", "subset_size=120", "batch_size=96")
RUN = "results/mono_to_3d/runs/i3d"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces the cap")
def test_a_cap_in_the_config_halves_the_micro_batch_for_the_same_result(tmp_path):
    overlay = tmp_path / "overlay.yaml"
    found = {}
    for name, keys in (("free", "{}"), ("held", "{mem_mb: 280, cap_memory: true}"), ("small", "{mem_mb: 40, cap_memory: true}")):
        overlay.write_text(f"mono_to_3d: {{models: {{i3d: {keys}}}}}\n")
        # A cap changes how a training is done and not what it learns: the finished one, and its checkpoints, would do.
        # Compiled code that gets no memory may crash instead of saying so: the profiles try again, and so does this.
        tried = ("--retries", "0" if name == "small" else "2")
        call = snakemake(tmp_path, f"{RUN}/train.json", "--configfile", str(overlay), "--forcerun", "train_model", *tried, config=CONFIG)
        log = (tmp_path / "logs/train_model/mono_to_3d/i3d.log").read_text()
        if name == "small":
            assert call.returncode != 0 and "mem_mb: 40 MB are less than" in log and "Traceback" not in log
            continue
        assert call.returncode == 0, call.stdout[-3000:] + log
        found[name] = json.loads((tmp_path / RUN / "train.json").read_text())["train_info"], table(tmp_path / RUN / "history.csv")
        shutil.rmtree(tmp_path / "checkpoints")
    (free, before), (held, after) = found["free"], found["held"]
    assert free["micro_batch"] == 96 and held["micro_batch"] < 96, (free, held)
    for name in ("train_loss", "validation_loss"):
        assert float(after[0][name]) == pytest.approx(float(before[0][name]), rel=1e-4)
