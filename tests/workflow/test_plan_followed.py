"""Snakemake starts jobs in the plan's order: its own scheduler, which knows no run times, starts the longest last."""

import json
import subprocess
import sys
from pathlib import Path

SNAKEFILE = """
from pathlib import Path
from trainyard.dag.follow import Follow
FOLLOW = Follow(None, Path("plan.json"))
RUNS = {"emotion": 2, "dynamics": 1, "harmony": 1, "groove": 1, "melody": 3}
rule all:
    input: expand("music/{run}", run=RUNS)
rule train:
    output: "{suite}/{run}"
    priority: FOLLOW.priority(50)
    resources: host=FOLLOW.host
    params: hours=lambda w: RUNS[w.run]
    shell: "echo {wildcards.run} >> started; sleep 0.{params.hours}; touch {output}"
"""


def started(folder: Path) -> list[str]:
    subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", "--quiet", "all", "--directory", str(folder), "-s", str(folder / "Snakefile")],
        check=True, capture_output=True, cwd=folder, timeout=120,
    )  # fmt: skip
    return (folder / "started").read_text().split()


def test_snakemake_starts_the_longest_first_when_a_plan_says_so(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    order = [("melody", 0, 3), ("emotion", 0, 2), ("dynamics", 2, 1), ("harmony", 3, 1), ("groove", 3, 1)]
    runs = [{"suite": "music", "run": name, "machine": "here", "start": at, "hours": hours} for name, at, hours in order]
    (tmp_path / "plan.json").write_text(json.dumps({"runs": runs}))
    found = started(tmp_path)
    assert sorted(found[:2]) == ["emotion", "melody"] and found[2] == "dynamics"
    for run in runs:
        run |= {"machine": run["run"], "start": 9 - run["start"]}
    (tmp_path / "plan.json").write_text(json.dumps({"runs": runs}))
    assert started(tmp_path) == found, "a new plan, with other machines and another order, trains nothing again"
