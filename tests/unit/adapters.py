"""Small LoRA adapters on disk, and what they add to their base as dense float64 matrices."""

import json

import numpy as np
from safetensors.numpy import load_file, save_file
from trainyard.lora.adapter_config import pattern_value

SHAPES = {"layers.0.self_attn.q_proj": (24, 32), "layers.0.mlp.up_proj": (40, 24)}
CONFIG = {
    "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "base", "r": 4, "lora_alpha": 8, "bias": "none",
    "target_modules": ["q_proj", "up_proj"], "lora_dropout": 0.0, "use_rslora": False, "use_dora": False, "qalora_group_size": 16,
    "megatron_core": "megatron.core", "rank_pattern": {}, "alpha_pattern": {}, "init_lora_weights": True, "inference_mode": True,
}  # fmt: skip


def name(module, factor):
    return f"base_model.model.model.{module}.lora_{factor}.weight"


def adapter(folder, seed, config=None, change=None, metadata=None, dtype=np.float32):
    """An adapter on disk with random factors; `change` may alter its tensors."""
    config = {**CONFIG, **(config or {})}
    rng, tensors = np.random.default_rng(seed), {}
    for module, (out, inside) in SHAPES.items():
        rank = abs(int(pattern_value(config["rank_pattern"], f"base_model.model.model.{module}", config["r"])))
        tensors[name(module, "A")] = rng.normal(size=(rank, inside)).astype(dtype)
        tensors[name(module, "B")] = rng.normal(size=(out, rank)).astype(dtype)
    if change:
        change(tensors)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata=metadata)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def spoil(key, value):
    return lambda tensors: tensors.update({key: value})


def deltas(folder):
    """scale · B·A of every module, float64, as any LoRA runtime computes it."""
    config, tensors = json.loads((folder / "adapter_config.json").read_text()), load_file(folder / "adapter_model.safetensors")
    found = {}
    for module in SHAPES:
        full = f"base_model.model.model.{module}"
        rank = pattern_value(config.get("rank_pattern"), full, config["r"])
        alpha = pattern_value(config.get("alpha_pattern"), full, config["lora_alpha"])
        scale = alpha / rank**0.5 if config.get("use_rslora") else alpha / rank
        a, b = (tensors[name(module, f)].astype(np.float64) for f in "AB")
        assert a.shape[0] == rank
        found[module] = scale * b @ a
    return found


def error(got, wanted):
    """Relative Frobenius distance over all modules."""
    size = sum(np.sum(w**2) for w in wanted.values()) ** 0.5
    return sum(np.sum((got[m] - wanted[m]) ** 2) for m in wanted) ** 0.5 / size


def weighted_sum(folders, weights):
    parts = [deltas(f) for f in folders]
    return {m: sum(w * p[m] for w, p in zip(weights, parts)) for m in SHAPES}
