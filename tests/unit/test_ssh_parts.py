"""Parts of the SSH executor that need no host: leases, frames, logs, manifest, hosts, complaints, pins."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snakemake_executor_plugin_ssh.host import logs
from snakemake_executor_plugin_ssh.host.environment import problems
from snakemake_executor_plugin_ssh.host.frames import Frames, encode
from snakemake_executor_plugin_ssh.host.lease import Lease
from snakemake_executor_plugin_ssh.host.sources import Sources
from snakemake_executor_plugin_ssh.hosts import Host, parse_host, read_hosts
from snakemake_executor_plugin_ssh.lease import lease_seconds
from snakemake_executor_plugin_ssh.manifest import make_manifest
from snakemake_executor_plugin_ssh.openssh import OpenSSH, Refused, Unreachable, complaint
from snakemake_executor_plugin_ssh.packages import read_pins
from snakemake_interface_common.exceptions import WorkflowError


@given(st.floats(1, 1e6), st.floats(1, 600), st.booleans())
def test_a_lease_is_over_before_the_controller_gives_up(limit, poll, shared):
    lease = lease_seconds(limit, poll, shared)
    assert 0 < lease < limit and limit - lease >= min(45, limit * 0.01)
    assert lease_seconds(None, poll, shared) is None


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e3)), max_size=8))
def test_a_lease_is_never_longer_than_what_was_seen_allows(tmp_path_factory, extensions):
    """Whatever the order in which requests arrive, and however late."""
    lease = Lease(str(tmp_path_factory.mktemp("lease") / "lease"))
    lease.create()
    for seen, seconds in extensions:
        lease.extend(seen, seconds)
    assert lease.until() == max([0.0, *(seen + seconds for seen, seconds in extensions)])


def test_no_wall_clock_is_read_by_what_decides():
    """Only what a person reads, and what looks whether a host's clock will do, may ask for the time of day."""
    package = Path(__file__).parents[2] / "workflow" / "snakemake_executor_plugin_ssh"
    for path in package.rglob("*.py"):
        text = path.read_text()
        assert "time.time(" not in text or path.name in ("environment.py", "skew.py"), path
        assert "datetime" not in text, path
        assert "strftime" not in text or path.name == "cancel.py"


@given(st.lists(st.tuples(st.dictionaries(st.text(), st.text()), st.binary(max_size=300)), max_size=5), st.integers(1, 50))
def test_frames_survive_any_cut(messages, size):
    stream, frames, found = b"".join(encode(header, raw) for header, raw in messages), Frames(), []
    for begin in range(0, len(stream), size):
        frames.feed(stream[begin : begin + size])
        while (message := frames.next()) is not None:
            found.append(message)
    assert [({**header, "bytes": len(raw)}, raw) for header, raw in messages] == found and not frames.pending


@given(st.lists(st.binary(min_size=1, max_size=400), max_size=30), st.integers(20, 200))
def test_a_cut_log_keeps_its_beginning_and_its_end(tmp_path_factory, prints, limit):
    folder = str(tmp_path_factory.mktemp("log"))
    whole = b""
    for text in prints:
        with open(os.path.join(folder, "log"), "ab") as file:
            file.write(text)
        whole += text
        logs.cut(folder, limit)
    kept = b""
    while piece := logs.read(folder, len(kept), 37) if prints else b"":
        kept += piece
    if len(whole) <= limit:
        assert kept == whole
        return
    before, mark, after = kept.partition(b"\n[... ")
    if not mark:
        assert kept == whole
        return
    left_out, _, after = after.partition(b" bytes left out here ...]\n")
    assert whole.startswith(before) and whole.endswith(after) and len(before) >= limit // 2
    assert len(before) + int(left_out) + len(after) == len(whole)


@pytest.mark.parametrize(
    "text, cores, python",
    [("box", None, None), ("box:cores=4,mem_mb=8000,gpu=1", 4, None), ("user@box:cores=2,python=/a b/python", 2, "/a b/python")],
)
def test_hosts_are_read(text, cores, python):
    host = parse_host(text)
    assert (host.cores, host.python, host.name) == (cores, python, text.partition(":")[0])


@pytest.mark.parametrize("text", ["box:cores=0", "box:cores=four", "box:memory=4", "-box:cores=1", "$(x):cores=1", "box:gpu=-1"])
def test_hosts_that_cannot_be(text):
    with pytest.raises(WorkflowError, match="ssh host"):
        parse_host(text)


def test_a_file_of_hosts(tmp_path):
    path = tmp_path / "hosts.yaml"
    path.write_text("hosts:\n  a: {cores: 2}\n  b:\n")
    assert [host.name for host in read_hosts([str(path), "localhost"])] == ["a", "b", "localhost"]
    with pytest.raises(WorkflowError, match="twice"):
        read_hosts([str(path), "a"])
    path.write_text("hosts:\n  a: {core: 2}\n")
    with pytest.raises(WorkflowError, match="'core', which is not one of"):
        read_hosts([str(path)])


@given(st.text(alphabet="abc/'\"$() ;`&|\n-", max_size=20))
def test_nothing_of_the_users_is_in_a_remote_command(odd):
    """The command that a shell on the host reads is the same for every path; what is the user's comes on standard input."""
    ssh = OpenSSH(Path("/some where/config"), Path("/tmp/s"))
    plain, strange = Host("box", python="/usr/bin/python", workdir="/w"), Host("box", python=odd, workdir=odd)
    assert ssh.agent(plain)[-1] == ssh.agent(strange)[-1] and ssh.agent(plain)[-3:-1] == ["--", "box"]


@pytest.mark.parametrize(
    "code, text, kind, says",
    [
        (255, "Host key verification failed.", Refused, "host key"),
        (255, "root@h: Permission denied (publickey).", Refused, "does not let us in"),
        (97, "no-python-here", Refused, "make it with: PREPARE"),
        (255, "ssh: connect to host h port 22: Connection refused", Unreachable, "Connection refused"),
        (255, "ssh: Could not resolve hostname h: Temporary failure in name resolution", Unreachable, "resolve"),
        (1, "Traceback\nSyntaxError: invalid syntax", Refused, "SyntaxError"),
    ],
)
def test_complaints_of_ssh(code, text, kind, says):
    problem = complaint(Host("h", python="/p"), code, text, "ssh h", "PREPARE")
    assert isinstance(problem, kind) and says in str(problem)


def repository(folder: Path) -> Path:
    subprocess.run(["git", "init", "-q", str(folder)], check=True, timeout=30)
    (folder / ".gitignore").write_text("results/\nlocal.yaml\n")
    (folder / "Snakefile").write_text("rule all:\n")
    (folder / "results").mkdir()
    (folder / "results" / "big").write_bytes(bytes(10**6))
    (folder / "it's $(odd)").write_text("x")
    (folder / "link").symlink_to("Snakefile")
    return folder


def test_the_manifest_has_what_git_does_not_ignore(tmp_path):
    root = repository(tmp_path)
    manifest = make_manifest(root, ["Snakefile"], 1)
    assert [entry["path"] for entry in manifest.entries] == [".gitignore", "Snakefile", "it's $(odd)", "link"]
    (root / "local.yaml").write_text("a: 1\n")
    assert make_manifest(root, [], 1).version == manifest.version
    assert make_manifest(root, ["local.yaml"], 1).version != manifest.version
    os.utime(root / "Snakefile", (1, 1))
    assert make_manifest(root, [], 1).version == manifest.version
    (root / "Snakefile").chmod(0o755)
    assert make_manifest(root, [], 1).version != manifest.version


def test_too_much_and_too_far_is_refused(tmp_path):
    root = repository(tmp_path)
    (root / "data.bin").write_bytes(bytes(2 * 10**6))
    with pytest.raises(WorkflowError, match=r"2\.0 MB, more than the 1 MB.*data\.bin \(2\.0 MB\)"):
        make_manifest(root, [], 1)
    with pytest.raises(WorkflowError, match="not below the working directory"):
        make_manifest(root, ["../Snakefile"], 10)


def test_without_git_all_files_go(tmp_path):
    (tmp_path / ".snakemake").mkdir()
    (tmp_path / ".snakemake" / "log").write_text("x")
    (tmp_path / "Snakefile").write_text("x")
    assert [entry["path"] for entry in make_manifest(tmp_path, [], 1).entries] == ["Snakefile"]


def test_sources_arrive_whole_and_go_when_nothing_needs_them(tmp_path):
    root = repository(tmp_path / "here")
    (root / "large").write_bytes(os.urandom(2_500_000))
    manifest = make_manifest(root, [], 10)
    there = Sources(str(tmp_path / "there"))
    missing = there.missing(manifest.entries)
    for pieces, data in manifest.pieces(missing):
        begin = 0
        for sha, offset, length, last in pieces:
            there.add(sha, offset, data[begin : begin + length], last)
            begin += length
    assert not there.missing(manifest.entries)
    there.install(manifest.version, manifest.entries, set())
    there.copy(manifest.version, str(tmp_path / "job"))
    for entry in manifest.entries:
        assert (tmp_path / "job" / entry["path"]).read_bytes() == (root / entry["path"]).read_bytes()
    assert (tmp_path / "job" / "link").is_symlink()
    (root / "large").write_text("small")
    other = make_manifest(root, [], 10)
    assert len(there.missing(other.entries)) == 1
    with pytest.raises(ValueError, match="damaged"):
        there.add(there.missing(other.entries)[0], 0, b"something else", True)
    with pytest.raises(ValueError, match="outside its folder"):
        there.install("0" * 8, [{"path": "../x", "link": "y"}], {manifest.version})


def test_a_file_changed_after_the_run_began(tmp_path):
    root = repository(tmp_path)
    manifest = make_manifest(root, [], 1)
    (root / "Snakefile").write_text("other")
    with pytest.raises(WorkflowError, match="was changed after the run had begun"):
        list(manifest.pieces(manifest.contents))


def test_pins_and_differences(tmp_path):
    lock = tmp_path / "lock"
    lock.write_text("# c\nnumpy==2.4.6\ntorch[x]==2.13.0 # why\ncolorama==0.4 ; sys_platform == 'win32'\n-e .\n")
    assert read_pins(lock) == {"numpy": "2.4.6", "torch": "2.13.0"}
    assert problems({"pytest": None}) == []
    assert problems({"pytest": "0.0", "no-such-package": "1"})[0] == "no-such-package is missing"
