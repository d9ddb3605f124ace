"""Training begins only where preflight and this machine allow it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_preflight import examine, job, packs
from trainyard.host.resources import Memory
from trainyard.train import decoders, machine
from trainyard.train.check import fail
from trainyard.train.gate import pass_gate

SCRIPT = Path(__file__).parents[2] / "workflow" / "scripts" / "train_model.py"
CPU = torch.device("cpu")


@pytest.fixture
def passed(tmp_path: Path) -> tuple[dict[str, str], Path]:
    files = packs(tmp_path)
    report = tmp_path / "preflight.json"
    report.write_text(json.dumps(examine(files, tmp_path)))
    return files, report


def refusal(files: dict[str, str], report: Path, folder: Path, device: torch.device = CPU) -> str:
    with pytest.raises(ValueError) as refused:
        pass_gate(str(report), files, folder, device)
    return str(refused.value)


def change(report: Path, **keys) -> None:
    report.write_text(json.dumps({**json.loads(report.read_text()), **keys}))


def test_a_run_that_passed_begins_in_silence(passed, tmp_path: Path) -> None:
    files, report = passed
    pass_gate(str(report), files, tmp_path, CPU, pytest.fail)


def test_what_is_wrong_with_the_run_refuses_anywhere(passed, tmp_path: Path) -> None:
    files, report = passed
    found = json.loads(report.read_text())
    change(
        report, checks=[*found["checks"], fail("labels", "every training sample is 'no'", "2 classes", "correct the label rule").__dict__]
    )
    words = refusal(files, report, tmp_path)
    assert "every training sample is 'no'" in words and "correct the label rule" in words and str(report) in words


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ('{"checks": [', "not JSON"),
        ("{}", "no report of a preflight"),
        ("[]", "no rep"),
        ('{"checks": [{}]}', "no rep"),
        ('{"checks": [], "needs": {"memory": 3}}', "no rep"),
        ('{"checks": [], "run_info": "here"}', "no rep"),
    ],
)
def test_half_a_report_or_another_file_is_named(passed, tmp_path: Path, text: str, says: str) -> None:
    files, report = passed
    report.write_text(text)
    words = refusal(files, report, tmp_path)
    assert words.startswith(f"{report}: ") and says in words


def test_what_was_wrong_with_another_machine_is_asked_anew(passed, tmp_path: Path, monkeypatch) -> None:
    files, report = passed
    found = json.loads(report.read_text())
    change(report, verdict="fail", checks=[*found["checks"], fail("disk", "2 GB", "1 GB free", "make room").of_machine().__dict__])
    pass_gate(str(report), files, tmp_path, CPU, pytest.fail)
    monkeypatch.setattr(machine, "free_bytes", lambda path: 10)
    words = refusal(files, report, tmp_path)
    assert "this machine" in words and "are missing" in words


def test_a_need_that_could_not_be_measured_refuses_on_the_same_machine_only(passed, tmp_path: Path) -> None:
    files, report = passed
    found = json.loads(report.read_text())
    no_memory = fail("step", "out of memory even with one sample", "", "a machine with more").of_machine().__dict__
    change(report, verdict="fail", needs=None, checks=[*found["checks"], no_memory])
    assert "out of memory" in refusal(files, report, tmp_path)
    change(report, run_info={"host": "another"})
    pass_gate(str(report), files, tmp_path, CPU, pytest.fail)


def test_memory_device_mounts_and_decoders_are_asked_here(passed, tmp_path: Path, monkeypatch) -> None:
    files, report = passed
    needs = json.loads(report.read_text())["needs"]
    monkeypatch.setattr(machine, "memory", lambda: Memory(90.0, 10.0))
    assert "memory: " in refusal(files, report, tmp_path)
    monkeypatch.undo()
    change(report, needs={**needs, "gpus": 1})
    assert "1 GPU asked for" in refusal(files, report, tmp_path)
    change(report, needs=needs, decoders=[".wav"])
    monkeypatch.setattr(decoders, "_audio", lambda kinds: fail("audio", "broken", "", "install it again"))
    assert "audio: broken" in refusal(files, report, tmp_path)


def test_measured_on_another_device_is_said(passed, tmp_path: Path) -> None:
    files, report = passed
    needs = json.loads(report.read_text())["needs"]
    change(report, needs={**needs, "device": "cuda", "memory_mb": 1e9})
    said: list[str] = []
    pass_gate(str(report), files, tmp_path, CPU, said.append)
    assert len(said) == 1 and "preflight ran on cuda" in said[0]


def test_checkpoints_that_are_there_are_part_of_the_need(passed, tmp_path: Path, monkeypatch) -> None:
    files, report = passed
    need = json.loads(report.read_text())["needs"]["checkpoint_bytes"]
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.setattr(machine, "free_bytes", lambda path: need // 2)
    assert "are missing" in refusal(files, report, folder)
    (folder / "step-000000009.safetensors").write_bytes(bytes(3 * need // 4))
    pass_gate(str(report), files, folder, CPU, pytest.fail)


def test_the_command_refuses_in_one_line_and_writes_nothing(passed, tmp_path: Path) -> None:
    files, report = passed
    needs = json.loads(report.read_text())["needs"]
    change(report, needs={**needs, "memory_mb": 1e9})
    command = [sys.executable, SCRIPT, "--settings", json.dumps(job()), "--preflight", report, "--output", tmp_path / "out"]
    command += ["--checkpoints", tmp_path / "checkpoints", *(x for split, path in files.items() for x in (f"--{split}", path))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and not (tmp_path / "out").exists()
    assert len(done.stderr.strip().splitlines()) == 1 and "error: this machine cannot train it" in done.stderr, done.stderr
