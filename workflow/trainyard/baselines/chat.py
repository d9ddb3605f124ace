"""Baselines of chat models over the base's own tokens: how often each token answers, and n-grams of the rows.

The n-grams see the prompt's last tokens too, but score answers only, as the model does. No torch.
"""

from typing import Any

import numpy as np

from trainyard.baselines.base import Baseline
from trainyard.baselines.ngram import NGram, token_scores
from trainyard.data.chat_tokens import ChatTokenizer, EncodedRows, encode_pack
from trainyard.data.predictions import PartOutput
from trainyard.data.views import View

PART = "answer"
BLOCK = 20_000_000
_FITTED: dict[Any, tuple[ChatTokenizer, list[tuple[str, str, NGram]]]] = {}


def baselines(settings: dict, train: View, held: View) -> list[Baseline]:
    """Unigram (trivial), bigram and trigram (simple) of the answer's tokens. `settings["base_model"]` names the base."""
    if not settings.get("base_model"):
        raise ValueError("chat baselines count the base's tokens: give --base-model, its folder or hub name")
    tokenizer, fitted = _fit(settings["base_model"], train, settings["options"])
    rows = encode_pack(tokenizer, held.pack)
    keep = held.rows[rows.lengths[held.rows] <= settings["options"]["max_length"]]
    columns, target, owner = _columns(rows, keep)
    return [Baseline(level, name, keep[:, None], {PART: _score(model, columns, target, owner, len(keep))}) for level, name, model in fitted]


def _fit(base: str, train: View, options: dict[str, Any]) -> tuple[ChatTokenizer, list[tuple[str, str, NGram]]]:
    """From all answers that the model learns from: of conversations the last or every one."""
    max_length, every = options["max_length"], options.get("answers") == "every"
    key = (str(base), str(train.pack.path), len(train), max_length, every)
    if key not in _FITTED:
        tokenizer = ChatTokenizer(base)
        rows = encode_pack(tokenizer, train.pack, every)
        items = np.flatnonzero(np.isin(rows.of, train.rows))
        columns, target, _ = _columns(rows, items[rows.lengths[items] <= max_length])
        _FITTED[key] = (
            tokenizer,
            [
                (level, name, NGram(orders, tokenizer.size).fit(columns, target))
                for level, name, orders in (
                    ("trivial", "unigram", [()]),
                    ("simple", "bigram", [(), ("last",)]),
                    ("simple", "trigram", [(), ("last",), ("before", "last")]),
                )
            ],
        )
    return _FITTED[key]


def _columns(rows: EncodedRows, items: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """The two tokens before each answer token, the token itself, and which of `items` it belongs to; each (n,) int64."""
    first = rows.starts[items] + np.maximum(rows.prompt[items], 1)
    count = rows.starts[items + 1] - first
    owner = np.repeat(np.arange(len(items)), count)
    at = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
    ids = rows.ids.astype(np.int64)
    before = np.where(at - 2 >= rows.starts[items][owner], ids[np.maximum(at - 2, 0)], -1)
    return {"last": ids[at - 1], "before": before}, ids[at], owner


def _score(model: NGram, columns: dict[str, np.ndarray], target: np.ndarray, owner: np.ndarray, items: int) -> PartOutput:
    """In blocks: probabilities are (tokens, vocabulary)."""
    step = max(1, BLOCK // model.size)
    nll, hits, counts = (np.zeros(items) for _ in range(3))
    for start in range(0, len(target), step):
        part = slice(start, start + step)
        p = model.probabilities({k: v[part] for k, v in columns.items()}, len(target[part]))
        for total, found in zip((nll, hits, counts), token_scores(p, target[part], owner[part], items)):
            total += found
    return PartOutput.tokens(nll, hits, counts)
