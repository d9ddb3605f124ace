"""`trainyard recommend`, for people and for `make run`; and GPUs that the scheduler counts."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from trainyard.cli import main, recommend
from trainyard.dag import gpus_taken, jobs
from trainyard.host.gpus import Gpu
from trainyard.host.resources import Memory

HOME = Path(__file__).parents[2]


@pytest.fixture
def machine(monkeypatch, tmp_path: Path):
    """A machine of 16 cores, 64 GB and some GPUs; a folder without a configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recommend, "usable_cores", lambda: 16.0)
    monkeypatch.setattr(recommend, "memory", lambda: Memory(64 * 1024, 50_000))
    return lambda gpus: monkeypatch.setattr(recommend, "usable_gpus", lambda: [Gpu(f"GPU-{i}", "G", i) for i in range(gpus)])


def said(capsys, *words: str) -> str:
    assert main(["recommend", *words]) == 0
    return capsys.readouterr().out.strip()


def test_words_for_people(machine, capsys) -> None:
    machine(0)
    assert said(capsys).startswith("8 runs at once, by memory: 64 GB, 8 a run")
    assert said(capsys, "--per-run", "2").startswith("12 runs at once, by cores")
    assert said(capsys, "--cores", "4", "--memory-gb", "16").startswith("2 runs at once, by memory")
    machine(2)
    assert said(capsys).startswith("2 runs at once, by GPUs")
    # Another machine than this one: its GPUs are not this one's.
    assert said(capsys, "--cores", "8", "--memory-gb", "64").startswith("8 runs")


def test_flags_for_snakemake(machine, capsys) -> None:
    machine(0)
    assert said(capsys, "--flags") == "--cores 12 --resources mem_mb=45000 gpu=1"
    machine(4)
    assert said(capsys, "--flags") == "--cores 12 --resources mem_mb=45000 gpu=4"
    Path("config").mkdir()
    Path("config/config.yaml").write_text("gpu_slots: 2\n")
    assert said(capsys, "--flags") == "--cores 12 --resources mem_mb=45000 gpu=8"


def test_flags_for_a_machine_that_is_described(machine, capsys) -> None:
    machine(0)
    assert said(capsys, "--flags", "--cores", "4", "--memory-gb", "10") == "--cores 4 --resources mem_mb=9216 gpu=1"


@pytest.mark.parametrize("text", ["[1]", "gpu_slots: true", "{", "gpu_slots: -1"])
def test_a_broken_configuration_costs_no_flags(machine, capsys, text) -> None:
    machine(1)
    Path("config").mkdir()
    Path("config/config.yaml").write_text(text)
    assert said(capsys, "--flags").endswith("gpu=1")


@pytest.mark.parametrize("words", ["--threads 0", "--per-run 0", "--cores nan", "--cores 0", "--memory-gb inf", "--gpus -1"])
def test_figures_that_no_machine_has_are_refused(machine, capsys, words) -> None:
    machine(0)
    with pytest.raises(SystemExit) as left:
        main(["recommend", *words.split()])
    assert left.value.code == 2 and f"argument {words.split()[0]}" in capsys.readouterr().err


def test_make_run_asks() -> None:
    (line,) = [line for line in (HOME / "Makefile").read_text().splitlines() if "snakemake --profile profiles/local" in line]
    assert "trainyard recommend --flags" in line


def test_the_scheduler_counts_a_gpu_for_every_run_of_this_machine_that_has_one(monkeypatch) -> None:
    here, away = SimpleNamespace(local_exec=True), SimpleNamespace(local_exec=False)
    monkeypatch.setattr(jobs, "usable_gpus", lambda: [])
    assert gpus_taken(here) == gpus_taken(away) == 0
    monkeypatch.setattr(jobs, "usable_gpus", lambda: [Gpu("GPU-0", "G", 0)])
    assert gpus_taken(here) == 1 and gpus_taken(away) == 0
