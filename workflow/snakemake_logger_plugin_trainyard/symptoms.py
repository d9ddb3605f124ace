"""The doctor's book: what the text of an error means here, and what to do. The entries are in symptoms.yaml."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml


@dataclass(frozen=True)
class Symptom:
    """One entry: signs in the text of an error, what they mean in this workflow, steps, and the first step in few words."""

    name: str
    signs: tuple[str, ...]
    meaning: str
    steps: tuple[str, ...]
    first: str

    def fits(self, text: str) -> bool:
        return any(re.search(sign, text, re.IGNORECASE) for sign in self.signs)


@cache
def book() -> tuple[Symptom, ...]:
    """Every entry; the more special ones come first."""
    entries = yaml.safe_load((Path(__file__).with_name("symptoms.yaml")).read_text(encoding="utf-8"))
    return tuple(Symptom(e["name"], tuple(e["signs"]), e["meaning"], tuple(e["steps"]), e["first"]) for e in entries)


def look_up(text: str) -> list[Symptom]:
    """Entries with a sign in the text; where there is none, those whose name shares the most words with it, two at least."""
    text = " ".join(text.split())
    found = [symptom for symptom in book() if symptom.fits(text)]
    if found:
        return found
    words = _words(text)
    scores = [(len(words & _words(symptom.name)), symptom) for symptom in book()]
    best = max((score for score, _ in scores), default=0)
    return [symptom for score, symptom in scores if score == best and best >= 2]


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]{4,}", text.lower()))


def advise(reason: str) -> str | None:
    """The first step for a reason of failure, in one short sentence; None where the book has no entry."""
    found = next((symptom for symptom in book() if symptom.fits(reason)), None)
    return f"try: {found.first}" if found else None
