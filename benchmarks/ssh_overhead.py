#!/usr/bin/env python
"""What a job over ssh costs beside the same command run by hand there: a host with a real sshd in a network namespace (root, Debian).

By hand: `ssh host 'cd …; python -m snakemake --mode remote …'` is what the executor also starts, so the command compared is the rule's own
(`true`). `job`: seconds of one more job in a chain of equal jobs over ssh, from the slope of two chains, so that the start of the
controller is not in it. `snakemake`: what the job's own snakemake takes on the host with nothing around it. The rest is the executor's.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "machines" / "ssh"))

CHAIN = """
rule all:
    input: "{last}.txt"

rule first:
    output: "0.txt"
    shell: "true > {{output}}"

rule step:
    input: lambda w: f"{{int(w.i) - 1}}.txt"
    output: "{{i}}.txt"
    wildcard_constraints: i="[1-9][0-9]*"
    shell: "cp {{input}} {{output}}"
"""


def seconds_of(command: list[str], **options) -> float:
    begin = time.monotonic()
    subprocess.run(command, check=True, capture_output=True, timeout=300, **options)
    return time.monotonic() - begin


def measure(rounds: int) -> dict:
    """Medians of `rounds`, in seconds."""
    from network import Network
    from store import Store

    network = Network(Path(tempfile.mkdtemp(prefix="ty-ssh-")))
    store = None
    try:
        host = network.add()
        store = Store(network.folder / "store")
        found: dict[str, list[float]] = {name: [] for name in ("by_hand", "snakemake", "shared_job", "store_job")}
        ssh = ["ssh", "-F", str(network.config), host.name]
        for number in range(rounds):
            found["by_hand"].append(seconds_of([*ssh, "true"]))
            for kind in ("shared", "store"):
                taken = {}
                for length in (1, 5):
                    folder = network.folder / f"{kind}{number}-{length}"
                    folder.mkdir()
                    (folder / "Snakefile").write_text(CHAIN.format(last=length))
                    command = [sys.executable, "-m", "snakemake", "--executor", "ssh", "--ssh-config", str(network.config), "--jobs", "2"]
                    command += ["--ssh-python", sys.executable, "--ssh-hosts", f"{host.name}:cores=2,workdir={host.home}/w"]
                    environment = dict(os.environ)
                    if kind == "store":
                        command += ["--shared-fs-usage", "none", "--default-storage-provider", "s3"]
                        command += ["--default-storage-prefix", f"s3://bucket/{number}-{length}", "--ssh-forward", str(store.port)]
                        environment |= store.environment
                    taken[length] = seconds_of(command, cwd=folder, env=environment)
                found[f"{kind}_job"].append((taken[5] - taken[1]) / 4)
            folder = network.folder / f"shared{number}-1"
            line = f"cd {folder} && {sys.executable} -m snakemake --cores 1 --force --nolock 0.txt"
            found["snakemake"].append(seconds_of([*ssh, line]))
        medians = {name: round(statistics.median(times), 2) for name, times in found.items()}
        return {**medians, "load": round(os.getloadavg()[0], 1), "rounds": rounds}
    finally:
        if store is not None:
            store.stop()
        network.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    print(json.dumps(measure(parser.parse_args().rounds)))


if __name__ == "__main__":
    main()
