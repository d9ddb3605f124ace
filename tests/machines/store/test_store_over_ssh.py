"""`snakemake --profile ec2` with two hosts behind a real sshd: files go through the store of this machine, and a host is lost."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from served import needs_rclone
from toy_workflow import SAME, call, command, environment, project, served

needs_rclone()
EPOCHS = 150


@pytest.fixture
def yard(network, tmp_path) -> Path:
    """A project whose machines file names two hosts of one core each."""
    folder = project(tmp_path / "yard")
    for _ in range(2):
        network.add()
    machines = "".join(f"  {host.name}: {{ssh: true, cores: 1, memory_gb: 8}}\n" for host in network.hosts)
    (folder / "config/machines.yaml").write_text(f"machines:\n  here: {{}}\n{machines}")
    (folder / "config/ssh_hosts").write_text(network.config.read_text())
    return folder


def start(yard: Path, said, *args: str) -> subprocess.Popen:
    flags = (
        "--profile",
        "ec2",
        "--seconds-between-status-checks",
        "1",
        "--ssh-python",
        sys.executable,
        "--ssh-unreachable-minutes",
        "0.5",
        *args,
    )
    return subprocess.Popen(
        command(yard, *flags, home=yard, epochs=EPOCHS), cwd=yard, stdout=said, stderr=said, env=environment(TRAINYARD_MIRROR_SECONDS="0.5")
    )


def wait_for(what, run: subprocess.Popen, seconds: float):
    until = time.monotonic() + seconds
    while time.monotonic() < until and run.poll() is None:
        if found := what():
            return found
        time.sleep(0.1)
    return None


def holding(folder: Path, secret: str) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and not p.is_symlink() and secret.encode() in p.read_bytes()]


def test_a_host_is_lost_in_training_and_the_result_is_that_of_an_undisturbed_run(yard, network, tmp_path):
    (tmp_path / "plain").mkdir()
    plain = call(tmp_path / "plain", "--cores", "2", epochs=EPOCHS)
    assert plain.returncode == 0, plain.stdout[-2000:] + plain.stderr[-2000:]
    with open(tmp_path / "said", "w") as said:
        run = start(yard, said)
        try:
            mirror = yard / ".trainyard/store/trainyard-store/checkpoints/aimedres"
            assert wait_for(lambda: list(mirror.glob("*/*/manifest-*.json")), run, 200), (tmp_path / "said").read_text()[-3000:]
            manifest = next(mirror.glob("*/*/manifest-*.json"))
            lost = manifest.parts[-3]
            victim = next(h for h in network.hosts if h.named("train_model.py", f"checkpoints/aimedres/{lost}"))
            keys = json.loads((yard / ".trainyard/store.json").read_text())
            for process in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    assert keys["secret_key"] not in process.read_text(errors="replace"), process
                except (FileNotFoundError, ProcessLookupError):
                    continue
            for host in network.hosts:
                assert holding(host.home, keys["secret_key"]) == [], "no key lies on a host"
            victim.die()
            assert run.wait(240) == 0, (tmp_path / "said").read_text()[-3000:]
        finally:
            if run.poll() is None:
                run.kill()
    text = (tmp_path / "said").read_text()
    assert f"host {victim.name} was given up" in text, text[-3000:]
    for name in SAME:
        assert (yard / "results/aimedres" / name).read_bytes() == (tmp_path / "plain/results/aimedres" / name).read_bytes(), name
    log = (yard / f"logs/train_model/aimedres/{lost}.log").read_text()
    assert "took the checkpoint of step" in log and "resuming at step" in log, log
    assert holding(yard, keys["secret_key"]) == [] and not served(yard)

    time.sleep(1.1)
    with open(tmp_path / "again", "w") as said:
        assert start(yard, said).wait(200) == 0
    assert "Nothing to do" in (tmp_path / "again").read_text()
