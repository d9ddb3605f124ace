"""Greedy answers: what a chat model says without help. Nothing constrains the text, so its validity is the model's."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F


@torch.no_grad()
def greedy_answers(
    model: Any, prompts: Sequence[Sequence[int]], end_ids: Sequence[int], pad_id: int, most: int, batch_size: int = 64
) -> list[list[int]]:
    """Token ids of the answers, each up to and without its end token, at most `most` long.

    `model`: a causal model of transformers (or peft). Prompts are batched by similar length, padded on the left, and
    extended with a key-value cache.
    """
    model.eval()
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers: list[list[int]] = [[] for _ in prompts]
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        for row, answer in zip(rows, _batch(model, [prompts[i] for i in rows], end_ids, pad_id, most)):
            answers[row] = answer
    return answers


def _batch(model: Any, prompts: list[Sequence[int]], end_ids: Sequence[int], pad_id: int, most: int) -> list[list[int]]:
    device = next(model.parameters()).device
    width = max(len(p) for p in prompts)
    ids = torch.full((len(prompts), width), pad_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, prompt in enumerate(prompts):
        ids[i, width - len(prompt) :], mask[i, width - len(prompt) :] = torch.tensor(prompt), 1
    ids, mask, ends = ids.to(device), mask.to(device), torch.tensor(list(end_ids), device=device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    done = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    steps, cache = [], None
    more = {"logits_to_keep": 1} if takes_logits_to_keep(model) else {}
    for _ in range(most):
        out = model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True, **more)
        cache = out.past_key_values
        ids = out.logits[:, -1].argmax(-1, keepdim=True)  # (n, 1)
        steps.append(ids)
        done |= torch.isin(ids[:, 0], ends)
        if done.all():
            break
        mask, positions = F.pad(mask, (0, 1), value=1), positions[:, -1:] + 1
    stop = {int(i) for i in end_ids}
    answers = []
    for row in torch.cat(steps, 1).tolist():
        end = next((i for i, token in enumerate(row) if token in stop), len(row))
        answers.append(row[:end])
    return answers


def takes_logits_to_keep(model: Any) -> bool:
    """Whether a causal model (or the one below a peft model) can compute the logits of some positions only."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(causal.forward).parameters
