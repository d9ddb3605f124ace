"""Causal models of several architectures, tiny and with random weights, in folders as people have them; and short chat rows."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import torch
from trainyard.config.architectures import LoraOptions
from trainyard.data.chat_pack import ChatPack, ChatWriter
from trainyard.lora.model import LoraChat
from trainyard.lora.tokenizer import train_tokenizer, write_tokenizer

VOCABULARY, POSITIONS = 300, 128
PLAIN = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
GROUPED = {**PLAIN, "num_key_value_heads": 1}
SIZES = {
    "llama": GROUPED,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": POSITIONS},  # Conv1D layers, q k v in one, dropout in the base
    "gpt_neox": {**PLAIN, "hidden_dropout": 0.1},  # q k v in one linear layer
    "qwen2": GROUPED,
    "mistral": {**GROUPED, "sliding_window": 100},
    "phi3": {**GROUPED, "pad_token_id": 0},  # q k v in one, gate and up in one
    "gemma2": {**GROUPED, "head_dim": 16, "sliding_window": 100},  # two kinds of attention
    "mixtral": {**GROUPED, "num_local_experts": 2},  # experts that are no layers but bare parameters
    "opt": {**PLAIN, "word_embed_proj_dim": 32, "ffn_dim": 48, "init_std": 0.2},  # positions learned, with an offset
    "bloom": {"hidden_size": 32, "n_layer": 1, "n_head": 2},  # its positions are not given but counted
    "lfm2": {**GROUPED, "layer_types": ["conv", "full_attention"], "block_multiple_of": 8},  # its convolutions look across rows
}
PACKABLE = ("llama", "gpt2", "gpt_neox", "qwen2", "mistral", "phi3", "gemma2", "mixtral", "opt")


@cache
def _tokenizer():
    return train_tokenizer(["once there was a small house with rooms and doors " * 4], VOCABULARY)


def make_base(folder: Path, kind: str, **more) -> str:
    """A base model's folder. Its weights are ten times as large as usual, so that what a token sees makes a difference."""
    from transformers import AutoConfig, AutoModelForCausalLM

    write_tokenizer(_tokenizer(), folder, POSITIONS)
    sizes = {"vocab_size": _tokenizer().get_vocab_size(), "max_position_embeddings": POSITIONS, "initializer_range": 0.2, **SIZES[kind]}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**sizes, **more}))
    model.save_pretrained(folder)
    return str(folder)


def chat_pack(folder: Path, rows: int = 24, seed: int = 0) -> ChatPack:
    """Rows of about 15 to 60 tokens; those of id "talk…" are conversations."""
    rng = np.random.default_rng(seed)
    words = ["once", "there", "was", "a", "small", "house", "with", "rooms", "and", "doors", *"123456789"]
    say = lambda n: " ".join(rng.choice(words, n))  # noqa: E731
    with ChatWriter(folder / "rows.jsonl") as writer:
        for i in range(rows):
            talk = i % 6 == 5
            before = [("system", say(2)), ("user", say(2)), ("assistant", say(3)), ("user", say(2)), ("assistant", say(2))] if talk else []
            row = {"id": f"{'talk' if talk else 'row'}{i}", "group": str(i), "prompt": say(rng.integers(2, 6)),
                   "answer": say(rng.integers(2, 14)), "messages": json.dumps([{"role": r, "content": c} for r, c in before])}  # fmt: skip
            writer.add({}, row)
    return ChatPack(folder / "rows.jsonl")


def new_lora(base: str, pack: ChatPack, seed: int = 0, strong: bool = True, **options) -> LoraChat:
    """A LoRA model; `strong` fills B, which starts at zero, so that the adapter says something."""
    torch.manual_seed(seed)
    model = LoraChat.from_pack(LoraOptions(**{"r": 4, "alpha": 8, **options}), pack, np.arange(len(pack)), {"base_model": base})
    if strong:
        for name, p in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(p, std=0.1)
    return model
