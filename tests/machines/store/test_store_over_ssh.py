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


@pytest.fixture
def plain(tmp_path) -> Path:
    """Results of an undisturbed run on this machine."""
    folder = tmp_path / "plain"
    folder.mkdir()
    done = call(folder, "--cores", "2", epochs=EPOCHS)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return folder / "results/aimedres"


def start(yard: Path, said, *words: str, minutes: float = 0.2) -> subprocess.Popen:
    """`words`: more of the configuration, then flags."""
    flags = [*words, "--profile", "ec2", "--seconds-between-status-checks", "1", "--ssh-python", sys.executable]
    flags += ["--ssh-silence-seconds", "4", "--ssh-unreachable-minutes", str(minutes)]
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


def in_training(yard: Path, network, run: subprocess.Popen):
    """A training whose checkpoints are mirrored, and the host that it runs on."""
    mirror = yard / ".trainyard/store/trainyard-store/checkpoints/aimedres"
    if not wait_for(lambda: list(mirror.glob("*/*/manifest-*.json")), run, 200):
        return None, None
    name = next(mirror.glob("*/*/manifest-*.json")).parts[-3]
    return name, next(h for h in network.hosts if h.named("train_model.py", f"checkpoints/aimedres/{name}"))


def same(yard: Path, plain: Path) -> list[str]:
    """The files that differ from those of the undisturbed run."""
    return [name for name in SAME if (yard / "results/aimedres" / name).read_bytes() != (plain / name).read_bytes()]


def test_a_host_is_lost_in_training_and_the_result_is_that_of_an_undisturbed_run(yard, network, plain, tmp_path):
    with open(tmp_path / "said", "w") as said:
        run = start(yard, said)
        try:
            lost, victim = in_training(yard, network, run)
            assert lost, (tmp_path / "said").read_text()[-3000:]
            keys = json.loads((yard / ".trainyard/store.json").read_text())
            for process in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    assert keys["secret_key"] not in process.read_text(errors="replace"), process
                except (FileNotFoundError, ProcessLookupError):
                    continue
            for host in network.hosts:
                assert holding(host.home, keys["secret_key"]) == [], "no key lies on a host"
            status = wait_for(lambda: lost in (told := looked(yard)) and "epoch" in told and told, run, 30)
            assert status, "how far a training on a host is, is seen from here"
            victim.die()
            assert run.wait(240) == 0, (tmp_path / "said").read_text()[-3000:]
        finally:
            if run.poll() is None:
                run.kill()
    text = (tmp_path / "said").read_text()
    assert f"host {victim.name} was given up" in text, text[-3000:]
    assert not same(yard, plain)
    assert "(run_script aimedres train_baseline_models) runs on host" in text, (
        "a found script that is among the sources runs where trainings do"
    )
    log = (yard / f"logs/train_model/aimedres/{lost}.log").read_text()
    assert "took the checkpoint of step" in log and "resuming at step" in log, log
    assert holding(yard, keys["secret_key"]) == [] and not served(yard)

    time.sleep(1.1)
    with open(tmp_path / "again", "w") as said:
        assert start(yard, said).wait(200) == 0
    assert "Nothing to do" in (tmp_path / "again").read_text()

    runs = [{"suite": "aimedres", "run": "train_baseline_models", "machine": "me", "start": 0, "hours": 1}]
    (yard / "results/plan.json").write_text(json.dumps({"runs": runs, "machines": [{"name": "me"}, {"name": "other"}]}))
    with open(tmp_path / "mine", "w") as said:
        assert start(yard, said, "worker=me", "--forcerun", "run_script").wait(200) == 0, (tmp_path / "mine").read_text()[-3000:]
    mine = (tmp_path / "mine").read_text()
    assert "(run_script aimedres train_baseline_models) runs on host" in mine and "worker me: its 1 runs are done" in mine, (
        "by a plan that hosts have not"
    )


def looked(yard: Path) -> str:
    """What `trainyard status` says."""
    call = [sys.executable, "-c", "from trainyard.cli import main; main(['status'])"]
    return subprocess.run(call, cwd=yard, capture_output=True, text=True, timeout=60).stdout


@pytest.mark.slow
def test_the_link_is_cut_for_a_minute_in_training_and_its_upload(yard, network, plain, tmp_path):
    """Training goes on and ends meanwhile; what it made arrives afterwards. No step is trained twice."""
    with open(tmp_path / "said", "w") as said:
        run = start(yard, said, minutes=10)
        try:
            name, host = in_training(yard, network, run)
            assert name, (tmp_path / "said").read_text()[-3000:]
            host.cut()
            time.sleep(60)
            assert not (yard / f".trainyard/store/trainyard-store/results/aimedres/runs/{name}/model.safetensors").exists()
            host.restore()
            assert run.wait(240) == 0, (tmp_path / "said").read_text()[-3000:]
        finally:
            if run.poll() is None:
                run.kill()
    text = (tmp_path / "said").read_text()
    assert f"host {host.name} cannot be reached" in text and f"host {host.name} is back" in text and "given up" not in text, text[-3000:]
    assert not same(yard, plain)
    assert "resuming" not in (yard / f"logs/train_model/aimedres/{name}.log").read_text()
