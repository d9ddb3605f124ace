"""Hosts that are not as they should be, on real sshd: refused with one message that says what to do, or worked with correctly."""

import shutil
import sys
import time
from pathlib import Path

import pytest
from desk import Desk, host_of, wait_for
from network import delayed, fill, run
from snakemake_executor_plugin_ssh.hosts import read_hosts
from snakemake_executor_plugin_ssh.prepare import prepare
from snakemake_interface_common.exceptions import WorkflowError


def refusal(jobs: Desk) -> str:
    """Why the only host of a desk cannot be used; its job is told the same."""
    jobs.submit("job", "true")
    event = jobs.wait("impossible", "job", 40)
    (note,) = [note for note in jobs.notes if "cannot be used" in note]
    assert note.partition(": ")[2] in event.text
    return note


def test_no_environment_then_prepared(network, desk):
    """The message names the command, and the command makes what was missing: here from wheels in a folder, as on any host from PyPI."""
    machine = network.add()
    python = str(machine.home / "my env" / "bin" / "python")
    host = host_of(machine, python=python)
    assert f"no environment for jobs at {python}" in (said := refusal(desk(host))) and f"PREPARE {machine.name}" in said
    wheels = machine.home / "wheels"
    wheels.mkdir()
    wheel(wheels)
    requirements = network.folder / "lock.txt"
    requirements.write_text(f"--no-index\n--find-links {wheels}\ntinypackage==1.5\n")
    assert "1 packages equal" in prepare(host, network.config, requirements)
    ready = desk(host, packages={"tinypackage": "1.5"})
    ready.submit("job", "python -c 'import tinypackage; print(tinypackage.NAME)'")
    assert ready.wait("finished", "job").status["tail"] == "a tiny package\n"
    assert "tinypackage is 1.5, not 1.6" in (said := refusal(desk(host, packages={"tinypackage": "1.6"}))) and "PREPARE" in said


def wheel(folder: Path) -> None:
    """A package as small as can be."""
    source = folder / "source"
    (source / "tinypackage").mkdir(parents=True)
    (source / "tinypackage" / "__init__.py").write_text("NAME = 'a tiny package'\n")
    info = source / "tinypackage-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tinypackage\nVersion: 1.5\n")
    (info / "WHEEL").write_text("Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    (info / "RECORD").write_text("")
    shutil.make_archive(str(folder / "tiny"), "zip", source)
    (folder / "tiny.zip").rename(folder / "tinypackage-1.5-py3-none-any.whl")


def test_another_python(network, desk):
    """Understood by a Python of another version; this one only says that it is one."""
    machine = network.add()
    python = machine.home / "bin" / "python"
    python.parent.mkdir()
    says = "import sys; sys.version_info = (3, 9, 2); sys.version = '3.9.2 (other)'; exec(sys.argv[1])"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{says}" "$2"\n')
    python.chmod(0o755)
    said = refusal(desk(host_of(machine, python=str(python))))
    assert "its Python is 3.9.2, and this is" in said and f"PREPARE {machine.name}" in said


def test_a_wrong_host_key(network, desk):
    machine = network.add()
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(network.folder / "other"))
    key = " ".join((network.folder / "other.pub").read_text().split()[:2])
    network.known.write_text(f"{machine.address} {key}\n")
    assert "its host key is not the one that is known" in (said := refusal(desk(host_of(machine)))) and str(network.config) in said


def test_a_key_that_is_not_let_in(network, desk):
    machine = network.add()
    (network.folder / "key.pub").write_text("")
    assert "does not let us in" in refusal(desk(host_of(machine)))


@pytest.mark.parametrize("name", ["-oProxyCommand=touch /tmp/owned", "a$(touch owned)", 'a"b', "a'b", "a;b", "a b", ""])
def test_odd_host_names_are_refused(name):
    with pytest.raises(WorkflowError, match="use a name of your OpenSSH configuration|no hosts"):
        read_hosts([name])


def test_an_odd_user_is_refused(network, desk):
    """By ssh itself, or by the host; nothing is carried out on the way."""
    machine = network.add()
    marker = network.folder / "owned"
    text = network.config.read_text().replace("User root", f'User "x$(touch {marker})\'"')
    network.config.write_text(text)
    assert "cannot be used" in refusal(desk(host_of(machine)))
    assert not marker.exists()


def test_odd_paths_work(network, desk):
    """Quotes, blanks and $() in the paths of the Python, the working folder and the directory are only names."""
    machine = network.add()
    odd = machine.home / 'it\'s "odd" $(touch owned); `touch owned`'
    (odd / "bin").mkdir(parents=True)
    (odd / "bin" / "python").symlink_to(sys.executable)
    jobs = desk(host_of(machine, python=str(odd / "bin" / "python"), workdir=str(odd / "work")))
    jobs.directory = odd
    jobs.submit("job", "pwd")
    assert jobs.wait("finished", "job").status["tail"].strip() == str(odd)
    assert not list(network.folder.rglob("owned"))


def test_two_hundred_milliseconds(network, desk):
    """A relay delays every byte by 100 ms each way."""
    machine = network.add(delayed(0.1))
    jobs = desk(host_of(machine), limit=60.0)
    for number in range(3):
        jobs.submit(f"job{number}", f"sleep 1; echo {number}")
    for number in range(3):
        assert jobs.wait("finished", f"job{number}", 40).status["tail"] == f"{number}\n"
    assert not [note for note in jobs.notes if "cannot be reached" in note]


@pytest.mark.parametrize("skew", ["+1h", "-1h"])
def test_clocks_an_hour_apart(network, desk, skewed, skew):
    """All of the host's processes, sshd's too, live an hour ahead or behind: nothing is held that may go on."""
    jobs = desk(host_of(network.add(environment=skewed(skew))), limit=12.0)
    jobs.submit("job", "date +%s; sleep 3; echo end")
    begin, end = jobs.wait("finished", "job", 60).status["tail"].split()
    assert end == "end" and abs(abs(int(begin) - time.time()) - 3600) < 120


def test_a_lease_ends_in_time_on_a_clock_an_hour_behind(network, desk, skewed):
    """What the controller gives up has been stopped by its host, whatever that takes for the time."""
    machine = network.add(environment=skewed("-1h"))
    jobs = desk(host_of(machine), limit=12.0)
    jobs.submit("cut", "sleep 305")
    jobs.wait("started", "cut")
    machine.cut()
    jobs.wait("lost", "cut", 60)
    states = {Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] for pid in machine.named("sleep 305")}
    assert states == {"T"}
    machine.restore()


def test_a_hosts_disk_is_full(network, desk, small_disk):
    """Full before the job: it is told so, and the next one goes when there is room. Filled by the job: its result comes all the same."""
    disk = small_disk("disk", 4)  # first: a host sees what was mounted before it began
    machine = network.add()
    jobs = desk(host_of(machine, workdir=str(disk / "work")))
    jobs.submit("first", "true")
    jobs.wait("finished", "first")
    filler = fill(disk)
    jobs.submit("full", "true")
    failed = jobs.wait("failed", "full", 10)
    assert "No space left on device" in failed.text and str(disk) in failed.text
    filler.unlink()
    with jobs.lock:
        jobs.book.hosts[machine.name].rest_until = 0
    jobs.submit("filling", f"cat /dev/zero > {disk}/more; echo full; sleep 1; exit 4")
    jobs.submit("beside", "sleep 3; exit 0")
    assert jobs.wait("failed", "filling").status["rc"] == 4
    assert jobs.wait("finished", "beside").status["rc"] == 0


def test_the_controllers_disk_is_full(network, desk, small_disk):
    """A job whose record cannot be written does not start, and says why; one that runs is not touched."""
    machine = network.add()
    disk = small_disk("controller", 2)
    jobs = desk(host_of(machine))
    assert (disk / "attempts").is_dir()
    jobs.submit("before", "sleep 4; echo done")
    jobs.wait("started", "before")
    filler = fill(disk)
    jobs.submit("full", "true")
    text = jobs.wait("impossible", "full").text
    assert "record could not be written on the controller: No space left on device" in text
    finished = jobs.wait("finished", "before")
    assert finished.status["tail"] == "done\n"
    assert any("the log of before could not be written" in note for note in jobs.notes) or Path(finished.status["log"]).exists()
    filler.unlink()
    jobs.submit("after", "true")
    jobs.wait("finished", "after")
    wait_for(lambda: "broken" not in "".join(jobs.notes), 1)
