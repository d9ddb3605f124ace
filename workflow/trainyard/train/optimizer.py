"""AdamW over two groups, and its state as tensors by parameter name.

The arithmetic is torch's own functional AdamW. Its Optimizer class is left out on purpose: making one imports the whole
compiler stack, 1.5 s of every job, which short runs feel.
"""

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

BETAS, EPSILON = (0.9, 0.999), 1e-8
STATE = ("step", "exp_avg", "exp_avg_sq")


class AdamW:
    """Decoupled weight decay (https://arxiv.org/abs/1711.05101) for matrices; norms, biases and other vectors go without.

    `lr` is set before every step.
    """

    def __init__(self, model: nn.Module, weight_decay: float):
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        if not named:
            raise ValueError("the model has nothing to train: every parameter is frozen")
        self.lr = 0.0
        self.groups = [
            ([(n, p) for n, p in named if p.ndim > 1], weight_decay),
            ([(n, p) for n, p in named if p.ndim <= 1], 0.0),
        ]
        self.state: dict[str, dict[str, Tensor]] = {}
        self._fused = named[0][1].device.type in ("cpu", "cuda")

    def zero_grad(self) -> None:
        for named, _ in self.groups:
            for _, p in named:
                p.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One update of every parameter that has a gradient.

        All that an update needs is there before the first weight changes, so that memory runs out before it or not at all.
        """
        plans = []
        for named, decay in self.groups:
            chosen = [(p, p.grad, self._state_of(n, p)) for n, p in named if p.grad is not None]
            if chosen:
                plans.append((decay, chosen))
        for decay, chosen in plans:
            states = [state for *_, state in chosen]
            adamw(
                [p for p, *_ in chosen],
                [g for _, g, _ in chosen],
                [s["exp_avg"] for s in states],
                [s["exp_avg_sq"] for s in states],
                [],
                [s["step"] for s in states],
                fused=self._fused,
                amsgrad=False,
                beta1=BETAS[0],
                beta2=BETAS[1],
                lr=self.lr,
                weight_decay=decay,
                eps=EPSILON,
                maximize=False,
            )

    def _state_of(self, name: str, p: Tensor) -> dict[str, Tensor]:
        if name not in self.state:
            step = torch.zeros((), dtype=torch.float32, device=p.device if self._fused else "cpu")
            self.state[name] = {"step": step, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        return self.state[name]

    def tensors(self) -> dict[str, Tensor]:
        """The state, by parameter name."""
        return {f"{name}.{key}": value for name, state in self.state.items() for key, value in state.items()}

    def check(self, tensors: dict[str, Tensor]) -> None:
        """Raise ValueError when `load_tensors` could not take them: a name, a shape, or a part of a parameter's state is amiss."""
        sizes = {n: {k: () if k == "step" else tuple(p.shape) for k in STATE} for named, _ in self.groups for n, p in named}
        found: dict[str, set[str]] = {}
        for name, tensor in tensors.items():
            parameter, _, key = name.rpartition(".")
            if sizes.get(parameter, {}).get(key) != tuple(tensor.shape):
                raise ValueError(f"of another model: the optimiser's '{name}' of {tuple(tensor.shape)} fits no parameter")
            found.setdefault(parameter, set()).add(key)
        for parameter, keys in found.items():
            if len(keys) < len(STATE):
                raise ValueError(f"the optimiser's state of '{parameter}' is not whole: {', '.join(sorted(set(STATE) - keys))} is missing")

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Put a state back that `tensors` returned; what it does not hold is as before the first step."""
        self.state.clear()
        for named, _ in self.groups:
            for name, p in named:
                if f"{name}.step" in tensors:
                    state = self._state_of(name, p)
                    for key in STATE:
                        state[key].copy_(tensors[f"{name}.{key}"])
