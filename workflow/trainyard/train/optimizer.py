"""AdamW over two groups, and its state as tensors by parameter name."""

import torch
from torch import Tensor, nn


def build_optimizer(model: nn.Module, weight_decay: float) -> torch.optim.AdamW:
    """Decay for matrices only; norms, biases and embeddings of one dimension go without (https://arxiv.org/abs/1711.05101)."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=0.0, fused=trained[0].device.type in ("cpu", "cuda"))


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The optimiser's state, by parameter name."""
    names = {p: n for n, p in model.named_parameters()}
    return {f"{names[p]}.{key}": value for p, state in optimizer.state.items() for key, value in state.items()}


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put a state back that `optimizer_tensors` returned."""
    for name, p in model.named_parameters():
        for key in ("step", "exp_avg", "exp_avg_sq"):
            if f"{name}.{key}" in tensors:
                value = tensors[f"{name}.{key}"]
                fused_step = key == "step" and p.device.type != "cpu"
                optimizer.state[p][key] = value.to(p.device) if key != "step" or fused_step else value
