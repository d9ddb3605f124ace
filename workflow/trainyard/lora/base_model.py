"""The base that LoRA starts from where none is given: a tiny Llama and its tokenizer, pretrained on chat rows.

LoRA on random frozen weights learns no valid JSON, so the demo needs a base that has learned. Architecture: Llama
(https://arxiv.org/abs/2302.13971) with tied embeddings; each row is seen at most about once.
"""

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np

from trainyard.config.schema import Base
from trainyard.data.chat_pack import ChatPack
from trainyard.data.chat_tokens import ChatTokenizer, EncodedRows, encode_pack
from trainyard.data.files import output_folder, write_json
from trainyard.lora.tokenizer import train_tokenizer, write_tokenizer

TOKENIZER_ROWS = 3000
log = logging.getLogger("trainyard.lora")


def build_base_model(settings: Base, train: Path, validation: Path, output: Path, threads: int = 1) -> dict[str, Any]:
    """Write config.json, model.safetensors, tokenizer files and base.json (losses, sizes) to `output`; returns base.json.

    Raises ValueError when the data or the sizes do not fit.
    """
    if settings.width % settings.heads or settings.width // settings.heads % 2:
        raise ValueError(f"base.width {settings.width} must be an even multiple of base.heads {settings.heads}")
    pack, held = ChatPack(train), ChatPack(validation)
    if not len(pack) or not len(held):
        raise ValueError(f"{train if not len(pack) else validation}: no rows to pretrain on")
    with output_folder(output) as temporary:
        return _build(settings, pack, held, temporary, threads)


def _build(settings: Base, pack: ChatPack, held: ChatPack, folder: Path, threads: int) -> dict[str, Any]:
    texts = (text for row in range(min(len(pack), TOKENIZER_ROWS)) for text in (pack.text("prompt", row), pack.text("answer", row)))
    write_tokenizer(train_tokenizer(texts, settings.vocabulary), folder, settings.context)
    tokenizer = ChatTokenizer(folder)
    rows, held_rows = encode_pack(tokenizer, pack), encode_pack(tokenizer, held)
    items = np.flatnonzero(rows.lengths <= settings.context)
    held_items = np.flatnonzero(held_rows.lengths <= settings.context)
    if not len(items) or not len(held_items):
        raise ValueError(f"{pack.path if not len(items) else held.path}: every row is longer than base.context, {settings.context} tokens")

    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(settings.seed)
    model = _new_model(settings, tokenizer)
    history = _pretrain(model, settings, rows, items)
    report = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocabulary": tokenizer.size,
        "rows": len(items),
        "rows_too_long": len(rows.lengths) - len(items),
        "steps": settings.steps,
        "train_loss": history[-1]["loss"],
        "validation_loss": mean_answer_loss(model, held_rows, held_items),
        "validation_rows": len(held_items),
        "history": history,
        "settings": settings.model_dump(mode="json"),
    }
    model.save_pretrained(folder)
    write_json(folder / "base.json", report)
    return report


def _new_model(settings: Base, tokenizer: ChatTokenizer):
    from transformers.models.llama.configuration_llama import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=tokenizer.size,
        hidden_size=settings.width,
        intermediate_size=settings.feed_forward,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=settings.context,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_id,
        bos_token_id=None,
        eos_token_id=tokenizer.end_ids[0],
        # The default, 0.02, is meant for widths in the thousands and costs a small model hundreds of steps.
        initializer_range=0.5 / settings.width**0.5,
    )
    return LlamaForCausalLM(config)


def _pretrain(model: Any, settings: Base, rows: EncodedRows, items: np.ndarray) -> list[dict[str, float]]:
    """Trains in place; the loss of a row is its answer's tokens and, weighted, its prompt's."""
    import torch

    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, 0.98))
    order, rng, history = np.zeros(0, np.int64), np.random.default_rng(settings.seed), []
    model.train()
    for step in range(settings.steps):
        while len(order) < settings.batch_size:
            order = np.concatenate([order, rng.permutation(items)])
        pick, order = order[: settings.batch_size], order[settings.batch_size :]
        # 5 % up, flat to 40 %, straight down: the rate is high while there is most to learn.
        warm, down = (step + 1) / max(1.0, 0.05 * settings.steps), (settings.steps - step) / (0.6 * settings.steps)
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * min(warm, 1.0, max(0.02, down))
        total, weight = row_losses(model, rows, pick, settings.prompt_loss)
        loss = total.sum() / weight.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % 50 == 0 or step + 1 == settings.steps:
            value = float(loss.detach())
            if not math.isfinite(value):
                raise ValueError(f"the loss is {value} at step {step + 1}; lower base.lr ({settings.lr})")
            history.append({"step": step + 1, "loss": round(value, 5)})
            log.info("step %d of %d: loss %.3f", step + 1, settings.steps, value)
    return history


def row_losses(model: Any, rows: EncodedRows, pick: np.ndarray, prompt_loss: float = 0.0):
    """Summed weighted loss and summed weight of each row, two tensors (n,).

    Rows are padded on the right; under a causal mask what follows a token cannot reach it, so no attention mask is needed.
    """
    import torch
    import torch.nn.functional as F

    lengths = rows.lengths[pick]
    ids = np.zeros((len(pick), int(lengths.max())), np.int64)
    weights = np.zeros(ids.shape, np.float32)
    for i, row in enumerate(pick):
        ids[i, : lengths[i]] = rows.at(row)
        weights[i, : rows.prompt[row]], weights[i, rows.prompt[row] : lengths[i]] = prompt_loss, 1.0
    tokens, scored = torch.from_numpy(ids), torch.from_numpy(weights)[:, 1:]
    hidden = model.model(input_ids=tokens, use_cache=False).last_hidden_state[:, :-1]
    keep = scored > 0
    nats = torch.zeros(scored.shape)
    nats[keep] = F.cross_entropy(model.lm_head(hidden[keep]), tokens[:, 1:][keep], reduction="none")
    return (nats * scored).sum(1), scored.sum(1)


def mean_answer_loss(model: Any, rows: EncodedRows, items: np.ndarray) -> float:
    """Mean nats an answer token over rows, without gradients."""
    import torch

    model.eval()
    total = count = 0.0
    with torch.no_grad():
        for start in range(0, len(items), 64):
            nats, weight = row_losses(model, rows, items[start : start + 64])
            total, count = total + float(nats.sum()), count + float(weight.sum())
    return total / count
