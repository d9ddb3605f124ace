"""`trainyard doctor`: this machine, the set-up, the folders; or what the text of an error means. It looks, and changes nothing."""

import re
import shutil
from pathlib import Path

from snakemake_logger_plugin_trainyard.symptoms import Symptom, book, look_up
from snakemake_logger_plugin_trainyard.words import count, wrap

from trainyard.cli.looks import examine

MARKS = {"ok": " ok ", "note": "note", "bad": "BAD "}


def run_doctor(symptom: str, results: Path, data: list[Path], all_symptoms: bool = False) -> int:
    """Print what was found; returns the exit code."""
    if all_symptoms:
        print("\n".join(f"{s.name}" for s in book()))
        return 0
    if symptom:
        found = look_up(symptom)
        if re.search(r"\bcuda\b", symptom, re.IGNORECASE) and any("memory" in s.name for s in found) and shutil.which("nvidia-smi") is None:
            found = list(dict.fromkeys([book()[0], *found]))  # said on a machine that has no GPU
        if not found:
            print("No entry for that. `trainyard logs --errors` shows the lines that matter, `trainyard doctor --list` the entries.")
            return 1
        print("\n\n".join(_entry(s) for s in found[:3]))
        return 0
    findings = list(examine(results, data))
    for finding in findings:
        lines = wrap(finding.text, 22)
        print(f"{MARKS[finding.level]}  {finding.name:<15} {lines[0].strip()}", *lines[1:], sep="\n")
    bad = sum(f.level == "bad" for f in findings)
    print(f"\n{count(bad, 'thing')} wrong" if bad else "\nNothing wrong was found.")
    return 1 if bad else 0


def _entry(symptom: Symptom) -> str:
    steps = [line for at, step in enumerate(symptom.steps, 1) for line in _step(at, step)]
    return "\n".join([symptom.name[0].upper() + symptom.name[1:], *wrap(symptom.meaning, 2), *steps])


def _step(number: int, step: str) -> list[str]:
    first, *rest = wrap(step, 5)
    return [f"  {number}. {first.strip()}", *rest]
