"""The plugin by itself: a wheel from its folder alone, in an environment that holds nothing else but Snakemake, over a real sshd."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).parents[3]
SNAKEFILE = """
rule all:
    input: "out/b.txt"
rule a:
    output: "out/a.txt"
    shell: "echo $SNAKEMAKE_SSH_TOKEN > {output}"
rule b:
    input: "out/a.txt"
    output: "out/b.txt"
    shell: "wc -w < {input} > {output}"
"""


@pytest.mark.slow
def test_a_wheel_of_it_alone(network, tmp_path):
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        pytest.skip("needs uv beside this Python: make setup")
    links = [flag for folder in os.environ.get("PIP_FIND_LINKS", "").split() for flag in ("--find-links", folder)]

    def call(*command: str | Path, seconds: float = 300) -> str:
        done = subprocess.run([str(word) for word in command], cwd=tmp_path, capture_output=True, text=True, timeout=seconds)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    call(uv, "build", "--quiet", "--wheel", *links, "--out-dir", tmp_path / "dist", HOME / "workflow" / "snakemake_executor_plugin_ssh")
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    python = tmp_path / "alone" / "bin" / "python"
    call(uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "alone")
    locked = ["--constraint", HOME / "requirements.lock"]
    call(uv, "pip", "install", "--quiet", "--python", python, *links, *locked, "snakemake", wheel)
    assert "trainyard" not in call(uv, "pip", "list", "--python", python)
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    host = network.add()
    hosts = f"{host.name}:cores=2,workdir={host.home}/work"
    settings = ["--ssh-hosts", hosts, "--ssh-config", network.config, "--ssh-python", python]
    said = call(python, "-m", "snakemake", "--executor", "ssh", "--jobs", "2", *settings)
    assert "(a) runs on host host0" in said and "(b) runs on host host0" in said
    assert (tmp_path / "out" / "b.txt").read_text().strip() == "1"
    assert f"host {host.name} fits" in call(
        python, "-m", "snakemake_executor_plugin_ssh", "prepare", host.name, "--ssh-config", network.config, "--python", python
    )
