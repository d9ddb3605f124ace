"""Base, shards and merges side by side, and the merge that is accepted: chosen on validation rows, reported on test rows."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trainyard.config.merging import Acceptance
from trainyard.data.predictions import PredictionTable
from trainyard.data.views import View
from trainyard.lora.gate import gates_of, why_refused
from trainyard.lora.model import PART
from trainyard.lora.plan_words import explain_answer, explain_unasked
from trainyard.lora.validate import Answers, Candidates, adapter_megabytes, figures_of, peak_gb, reset_peak

SAMPLES = 3
Row = dict[str, Any]


class Choice:
    """Asks every candidate in turn. `views`: validation and test; `count`: prompts that are answered in full."""

    def __init__(self, candidates: Candidates, views: dict[str, View], limits: Acceptance, count: int, say: Callable[[str], None] = print):
        self.candidates, self.views, self.limits, self.count, self.say = candidates, views, limits, count, say
        self.rows: list[Row] = []
        self.asked: dict[str, Answers] = {}  # every candidate's answers to test rows
        self._found: dict[str, dict[str, Answers]] = {}

    def look_at(self, name: str, role: str, folder: Path | None) -> None:
        """A base or shard: its figures on test rows, for comparison."""
        self.candidates.put_on(folder)
        reset_peak(self.candidates.device)
        test = self.asked[name] = self.candidates.answer(self.views["test"], self.count)
        seconds = self.candidates.seconds(self.views["test"], test.asked[:1])
        size = adapter_megabytes(folder) if folder else 0.0
        figures = figures_of(test, seconds_an_answer=seconds, memory_gb=peak_gb(self.candidates.device), megabytes=size)
        self._add({"name": name, "role": role, "figures": figures, "state": "", "reason": ""})

    def try_merge(self, name: str, folder: Path) -> bool:
        """A merge: limits on validation rows, figures on test rows. Returns whether it is accepted."""
        self.candidates.put_on(folder)
        reset_peak(self.candidates.device)
        validation = self.candidates.answer(self.views["validation"], self.count)
        seconds = self.candidates.seconds(self.views["validation"], validation.asked)
        more = {"seconds_an_answer": seconds, "memory_gb": peak_gb(self.candidates.device), "megabytes": adapter_megabytes(folder)}
        gates = gates_of(figures_of(validation, **more), self.limits)
        test = self.asked[name] = self.candidates.answer(self.views["test"], self.count)
        self._found[name] = {"validation": validation, "test": test}
        why = why_refused(gates)
        self._add({
            "name": name, "role": "merge", "figures": figures_of(test, **more), "validation": figures_of(validation), "gates": gates,
            "state": "refused" if why else "passed", "reason": why,
        })  # fmt: skip
        return not why

    def closest(self) -> str:
        """The merge of the lowest validation loss: what is shown where none passed."""
        return min(self._found, key=lambda name: self._found[name]["validation"].loss)

    def predictions(self, name: str) -> PredictionTable:
        """Held-out predictions of a merge: "answer" of every row, and the shares of the rows that were asked."""
        table = PredictionTable()
        for split, answers in self._found[name].items():
            pack = self.views[split].pack
            table.add(pack, answers.items, split, {PART: answers.tokens})
            for part, (items, out) in answers.share_parts.items():
                table.add(pack, items, split, {part: out})
        return table

    def groups(self, name: str) -> list[str]:
        """The group of each test row that a candidate was asked."""
        return self.views["test"].pack.texts("group", self.asked[name].items[:, 0])

    def samples(self, name: str) -> list[Row]:
        """The first asked test prompts, as they came, not picked."""
        answers, pack = self._found[name]["test"], self.views["test"].pack
        found = []
        for row, text in list(zip(answers.asked, answers.texts))[:SAMPLES]:
            entry = pack.row(int(row))
            words = explain_answer(text, entry["answer"])
            found.append({"id": entry["id"], "prompt": entry["prompt"], "answer": text, "checks": words})
        return found

    def own_samples(self, name: str, folder: Path, prompts: Sequence[str]) -> list[Row]:
        """A merge's answers to prompts that no row holds."""
        if not prompts:
            return []
        self.candidates.put_on(folder)
        json_wanted = any(self._found[name]["test"].checks)
        texts = self.candidates.ask(self.views["test"], prompts)
        checks = [explain_unasked(text) if json_wanted else {} for text in texts]
        return [{"id": "", "prompt": p, "answer": text, "checks": words} for p, text, words in zip(prompts, texts, checks)]

    def _add(self, row: Row) -> None:
        self.rows.append(row)
        figures = ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in row["figures"].items())
        verdict = ": ".join(filter(None, (row["state"], row["reason"])))
        self.say(f"{row['name']}: {figures}" + (f" — {verdict}" if verdict else ""))


def choose_merge(choice: Choice, shards: Sequence[Path], merged: Sequence[tuple[str, Path]], prompts: Sequence[str] = ()) -> dict[str, Any]:
    """Look at the base and the shards, try the merges in order until one passes; the content of accepted.json. `prompts`: more
    questions for the one that is shown."""
    started = time.monotonic()
    choice.look_at("base", "base", None)
    for folder in shards:
        choice.look_at(folder.name, "shard", folder)
    accepted = None
    for name, folder in merged:
        if accepted is not None:
            why = f"{accepted} was accepted before"
            choice.rows.append({"name": name, "role": "merge", "figures": {}, "state": "not tried", "reason": why})
        elif choice.try_merge(name, folder):
            accepted = name
    shown = accepted or choice.closest()
    return {
        "accepted": accepted,
        "folder": str(dict(merged)[accepted]) if accepted else None,
        "shown": shown,
        "reason": _reason(choice, accepted, [name for name, _ in merged]),
        "limits": choice.limits.model_dump(mode="json"),
        "chosen_on": {"split": "validation", "rows": len(choice.views["validation"]), "answers": choice.count},
        "reported_on": {"split": "test", "rows": len(choice.views["test"]), "answers": choice.count},
        "candidates": choice.rows,
        "samples": [*choice.own_samples(shown, dict(merged)[shown], prompts), *choice.samples(shown)],
        "seconds": round(time.monotonic() - started, 1),
    }


def _reason(choice: Choice, accepted: str | None, order: list[str]) -> str:
    refused = [f"{row['name']}: {row['reason']}" for row in choice.rows if row["state"] == "refused"]
    if accepted and not refused:
        return f"{accepted}, the first of {', '.join(order)}, passes every limit on validation rows"
    if accepted:
        return f"{accepted} passes every limit on validation rows; refused before it: " + " | ".join(refused)
    return "none passes: " + " | ".join(refused) + f"; the figures shown are those of {choice.closest()}, the lowest validation loss"
