"""Asking a base and its adapters the same held-out rows: answer loss, and what they write when nothing helps them."""

import resource
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainyard.data.files import unit_hash
from trainyard.data.predictions import PartOutput
from trainyard.data.views import View
from trainyard.lora.adapter import WEIGHTS, Adapter
from trainyard.lora.adapter_config import short_name
from trainyard.lora.generate import greedy_answers
from trainyard.lora.model import PART, LoraChat
from trainyard.lora.plan_check import PARTS, check_answer

TIMED = 3
HEADROOM = 1.5


@dataclass
class Answers:
    """What one candidate did on one split. `loss`: nats an answer token; shares by part; texts of the asked rows."""

    loss: float
    shares: dict[str, float]
    tokens: PartOutput
    items: np.ndarray
    asked: np.ndarray
    texts: list[str] = field(default_factory=list)
    checks: list[dict[str, bool]] = field(default_factory=list)

    @property
    def share_parts(self) -> dict[str, tuple[np.ndarray, PartOutput]]:
        """Per part: the rows it was asked of, (m, 1), and whether they passed."""
        found = {}
        for part in PARTS:
            rows = [i for i, checks in enumerate(self.checks) if part in checks]
            if rows:
                found[part] = self.asked[rows][:, None], PartOutput.share(np.array([self.checks[i][part] for i in rows]))
        return found


class Candidates:
    """A base with adapters that are put on one after the other; the base's weights are loaded once."""

    def __init__(self, chat: LoraChat, device: torch.device):
        self.chat, self.device = chat, device
        self._own: dict[str, torch.Tensor] = {}  # the base's values of what adapters hold whole
        chat.model.to(device)

    def put_on(self, folder: Path | None) -> None:
        """Use the adapter of a folder; None for the bare base."""
        from peft import PeftModel

        model = self.chat.model
        if hasattr(model, "peft_config"):
            model = model.unload()
            if hasattr(model, "peft_config"):
                del model.peft_config
        self._restore(model)
        if folder is not None:
            adapter = Adapter(folder)  # without a sound one peft would turn to adapter_model.bin, a pickle
            self._keep(model, adapter)
            try:
                model = PeftModel.from_pretrained(model, str(folder))
            except (RuntimeError, KeyError) as error:
                raise ValueError(f"{folder}: this adapter does not fit the base: {' '.join(str(error).split())[:300]}") from None
        self.chat.model = model.to(self.device).eval()

    def _keep(self, model: Any, adapter: Adapter) -> None:
        """Note the base's values of modules_to_save and biases: peft leaves those of the adapter behind when it is taken off."""
        state = model.state_dict()
        for name in (*adapter.trained, *adapter.frozen):
            own = short_name(name).replace(".base_layer", "")
            if own in state and own not in self._own:
                self._own[own] = state[own].clone()

    @torch.no_grad()
    def _restore(self, model: Any) -> None:
        state = model.state_dict()
        for name, values in self._own.items():
            state[name].copy_(values)

    @torch.no_grad()
    def answer(self, view: View, count: int, batch: int = 32) -> Answers:
        """Loss on every row of the view, and greedy answers to `count` prompts drawn by hash, so all see the same."""
        chat = self.chat
        items = chat.items(view.pack, view.rows)
        nats: list[np.ndarray] = []
        hits: list[np.ndarray] = []
        weights: list[np.ndarray] = []
        for start in range(0, len(items), batch):
            tensors = {k: v.to(self.device) for k, v in chat.collate(view.pack, items[start : start + batch], None).items()}
            out = chat.predict(tensors)[PART]
            nats, hits, weights = [*nats, out.nll], [*hits, out.correct], [*weights, out.count]
        tokens = PartOutput.tokens(np.concatenate(nats), np.concatenate(hits), np.concatenate(weights))
        asked = asked_rows(view, items[:, 0], count)
        found = Answers(float(tokens.nll.sum() / tokens.count.sum()), {}, tokens, items, asked)
        found.texts = self.texts(view, asked)
        found.checks = [check_answer(text, view.pack.text("answer", int(row))) for text, row in zip(found.texts, asked)]
        found.shares = {part: float(out.correct.mean()) for part, (_, out) in found.share_parts.items()}
        return found

    def texts(self, view: View, rows: np.ndarray) -> list[str]:
        """Greedy answers. They may be half as long again as the longest reference among the rows asked."""
        encoded = self.chat.encoded(view.pack)
        if not len(rows):
            return []
        prompts = [encoded.at(row)[: encoded.prompt[row]].tolist() for row in rows]
        return self._greedy(prompts, int((encoded.lengths - encoded.prompt)[rows].max()))

    def _greedy(self, prompts: list[list[int]], longest: int) -> list[str]:
        most = max(1, min(int(longest * HEADROOM) + 1, self._positions() - max(len(p) for p in prompts)))
        tokenizer = self.chat.tokenizer
        answers = greedy_answers(self.chat.model, prompts, tokenizer.end_ids, tokenizer.pad_id, most)
        return [tokenizer.decode(ids) for ids in answers]

    def ask(self, view: View, prompts: Sequence[str]) -> list[str]:
        """Greedy answers to any prompts, as long as those to the view's rows may be; "" for a prompt that leaves no room."""
        encoded, tokenizer, most = self.chat.encoded(view.pack), self.chat.tokenizer, self._positions()
        longest = int((encoded.lengths - encoded.prompt)[view.rows].max()) if len(view) else most
        ids = [tokenizer.prompt_ids(prompt) for prompt in prompts]
        return [self._greedy([prompt], longest)[0] if len(prompt) < most else "" for prompt in ids]

    def seconds(self, view: View, rows: np.ndarray) -> float | None:
        """Median seconds of one answer, asked alone."""
        times = []
        for row in rows[:TIMED]:
            start = time.perf_counter()
            self.texts(view, np.array([row]))
            times.append(time.perf_counter() - start)
        return statistics.median(times) if times else None

    def _positions(self) -> int:
        config = self.chat.model.config
        return int(getattr(config, "max_position_embeddings", None) or 4096)


def asked_rows(view: View, rows: np.ndarray, count: int) -> np.ndarray:
    """`count` of the rows, those with the smallest hash of their id: the same on every machine, whatever the order."""
    order = sorted(rows, key=lambda row: unit_hash(view.pack.text("id", int(row)), "asked"))
    return np.array(sorted(order[:count]), np.int64)


def reset_peak(device: torch.device) -> None:
    """Start counting peak memory anew, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):  # where it cannot, the peak counts from the start of the process
        Path("/proc/self/clear_refs").write_text("5")


def peak_gb(device: torch.device) -> float:
    """Peak memory in GB: the card's on a GPU, else the process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9
    except (OSError, IndexError, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak * (1 if peak > 1 << 32 else 1024) / 1e9


def adapter_megabytes(folder: Path) -> float:
    return (folder / WEIGHTS).stat().st_size / 1e6


def figures_of(answers: Answers, **more: Any) -> dict[str, float]:
    """The row of the table: what a person compares."""
    known = {"answer_loss": answers.loss, **answers.shares, **more}
    return {key: round(float(value), 5) for key, value in known.items() if value is not None}
