"""What a machine may use: control groups of both versions, GPUs as the driver and CUDA_VISIBLE_DEVICES say, runs at once."""

import math
from pathlib import Path

import pytest
from trainyard.host import cgroup, gpus
from trainyard.host.gpus import Gpu, parse_list, usable_gpus, visible
from trainyard.host.recommend import recommend
from trainyard.host.resources import memory, usable_cores

MIB = 1 << 20


def version_2(root: Path, group: str = "/a/b", mounted: str = "/") -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(f"0::{group}\n")
    (root / "proc/self/mountinfo").write_text(f"30 23 0:26 {mounted} /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    top = root / "sys/fs/cgroup"
    (top / group.strip("/")).mkdir(parents=True)
    return top


def test_the_tightest_group_above_a_process_counts(tmp_path: Path) -> None:
    top = version_2(tmp_path)
    (top / "a/b/memory.max").write_text("max\n")
    (top / "a/b/cpu.max").write_text("max 100000\n")
    (top / "a/memory.max").write_text(f"{4096 * MIB}\n")
    (top / "a/memory.current").write_text(f"{3000 * MIB}\n")
    (top / "a/memory.stat").write_text(f"anon 5\ninactive_file {1000 * MIB}\n")
    (top / "a/cpu.max").write_text("150000 100000\n")
    assert cgroup.memory_limit(tmp_path) == 4096 * MIB
    assert cgroup.memory_left(tmp_path) == 2096 * MIB  # pages of files are let go when memory is asked for
    assert cgroup.cpu_limit(tmp_path) == 1.5


def test_a_container_sees_its_group_at_the_top_of_the_mount(tmp_path: Path) -> None:
    top = version_2(tmp_path, "/docker/abc", mounted="/docker/abc")
    (top / "memory.max").write_text(f"{512 * MIB}")
    assert cgroup.memory_limit(tmp_path) == 512 * MIB


def test_version_1(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("4:memory:/job\n1:cpu,cpuacct:/job\n0::/\n")
    (tmp_path / "proc/self/mountinfo").write_text(
        "35 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "32 31 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
    )
    for name, text in (
        ("memory/memory.limit_in_bytes", "9223372036854771712"), ("memory/job/memory.limit_in_bytes", f"{600 * MIB}"),
        ("memory/job/memory.usage_in_bytes", f"{700 * MIB}"), ("memory/job/memory.stat", f"total_inactive_file {50 * MIB}\n"),
        ("cpu/cpu.cfs_quota_us", "-1"), ("cpu/cpu.cfs_period_us", "100000"),
        ("cpu/job/cpu.cfs_quota_us", "200000"), ("cpu/job/cpu.cfs_period_us", "100000"),
    ):  # fmt: skip
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert cgroup.memory_limit(tmp_path) == 600 * MIB
    assert cgroup.memory_left(tmp_path) == 0
    assert cgroup.cpu_limit(tmp_path) == 2


def test_no_group_no_limit(tmp_path: Path) -> None:
    assert cgroup.memory_limit(tmp_path) == cgroup.memory_left(tmp_path) == cgroup.cpu_limit(tmp_path) == math.inf
    assert usable_cores() > 0 and 0 < memory().free <= memory().total


def test_a_limit_holds_for_cores_and_memory(monkeypatch) -> None:
    monkeypatch.setattr(cgroup, "cpu_limit", lambda: 0.5)
    monkeypatch.setattr(cgroup, "memory_limit", lambda: 100.0 * MIB)
    monkeypatch.setattr(cgroup, "memory_left", lambda: 40.0 * MIB)
    here = memory()
    assert usable_cores() == 0.5 and (here.total, here.free, here.limited) == (100, 40, True)


# ---- GPUs ----------------------------------------------------------------------------------------------------------------
LIST = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa1111-0000)
  MIG 3g.20gb     Device  0: (UUID: MIG-c1)
  MIG 3g.20gb     Device  1: (UUID: MIG-c2)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbb2222-0000)
GPU 2: NVIDIA A100-SXM4-40GB (UUID: GPU-cccc3333-0000)
"""


def test_instances_stand_for_the_gpu_that_is_cut() -> None:
    assert [g.name for g in parse_list(LIST)] == ["MIG-c1", "MIG-c2", "GPU-bbbb2222-0000", "GPU-cccc3333-0000"]
    assert parse_list("No devices found.\n") == []


@pytest.mark.parametrize(
    ("setting", "names"),
    [
        (None, ["MIG-c1", "MIG-c2", "GPU-bbbb2222-0000", "GPU-cccc3333-0000"]),
        ("", []),
        ("-1", []),
        ("2,1", ["GPU-cccc3333-0000", "GPU-bbbb2222-0000"]),
        ("GPU-bbbb", ["GPU-bbbb2222-0000"]),
        ("MIG-c2", ["MIG-c2"]),
        ("1,7,2", ["GPU-bbbb2222-0000"]),
        ("1,1", ["GPU-bbbb2222-0000"]),
    ],
)
def test_only_gpus_that_cuda_visible_devices_leaves(setting: str | None, names: list[str]) -> None:
    assert [g.name for g in visible(parse_list(LIST), setting)] == names


def test_no_gpu_for_a_cpu_run_nor_for_a_torch_without_cuda(monkeypatch) -> None:
    monkeypatch.setattr(gpus.sys, "platform", "linux")
    monkeypatch.setattr(gpus, "driver_gpus", lambda: [Gpu("GPU-a", "A", 0), Gpu("GPU-b", "B", 1)])
    monkeypatch.setattr(gpus, "torch_cuda", lambda: "13.0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [g.name for g in usable_gpus("auto")] == ["GPU-a", "GPU-b"]
    assert [g.name for g in usable_gpus("cuda:1")] == ["GPU-b"] and usable_gpus("cpu") == [] and usable_gpus("mps") == []
    monkeypatch.setattr(gpus, "torch_cuda", lambda: None)
    assert usable_gpus("auto") == []


# ---- runs at once --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("cores", "gigabytes", "table", "runs"),
    [(4, 16, range(2, 4), 2), (6, 32, range(4, 7), 4), (8, 64, range(6, 9), 8), (16, 128, range(8, 13), 12)],
)
@pytest.mark.parametrize("shown", [1.0, 0.957])
def test_every_row_of_the_owners_table_and_their_8_gb(cores: int, gigabytes: int, table: range, runs: int, shown: float) -> None:
    """Also where the machine shows a little less memory than it was sold with."""
    advice = recommend(cores, shown * gigabytes)
    assert advice.runs == runs and runs in table and 8 * runs <= gigabytes


def test_their_sentences() -> None:
    assert recommend(6, 48).runs == 6  # "for systems with 48 GB"
    assert recommend(16, 128, gpus=1).runs == 1 and recommend(16, 128, gpus=4).runs == 4
    assert recommend(16, 128, gpus=1, per_gpu=3).runs == 3
    assert recommend(6, 6 * 8).bound == "cores" and recommend(4, 16).bound == "memory" and recommend(16, 128, gpus=2).bound == "GPUs"


def test_what_a_run_is_known_to_take_counts_instead_and_one_run_is_the_least() -> None:
    assert recommend(4, 16, gb_per_run=1.5).runs == 4
    assert recommend(8, 64, threads=4).runs == 2
    tight = recommend(2, 4)
    assert tight.runs == 1 and "less than one run" in tight.reason
