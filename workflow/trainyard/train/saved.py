"""What a checkpoint holds of a training, and how a training takes it up again."""

import torch
from torch import Tensor

from trainyard.models.base import TrainyardModel
from trainyard.train.checkpoint import Snapshot
from trainyard.train.optimizer import AdamW
from trainyard.train.state import State


def snapshot_of(model: TrainyardModel, optimizer: AdamW, state: State) -> Snapshot:
    """Weights that are trained, the optimiser's state, and where the training is."""
    tensors = {f"model.{k}": v for k, v in model.trainable_state().items()}
    tensors |= {f"optimizer.{k}": v for k, v in optimizer.tensors().items()}
    return Snapshot(tensors, {**state.as_json(), "threads": torch.get_num_threads()})


def check_snapshot(snapshot: Snapshot, model: TrainyardModel, optimizer: AdamW) -> None:
    """Raise ValueError (KeyError, TypeError) when a checkpoint is of another model, or of no training."""
    State.from_json(snapshot.state)
    if type(threads := snapshot.state["threads"]) is not int or threads < 1:
        raise ValueError(f"not the state of a training: threads is {threads!r:.40}")
    optimizer.check(_below("optimizer.", snapshot))
    ours = {name: tuple(t.shape) for name, t in model.trainable_state().items()}
    theirs = {name: tuple(t.shape) for name, t in _below("model.", snapshot).items()}
    for name in ours.keys() | theirs.keys():
        if ours.get(name) != theirs.get(name):
            raise ValueError(f"of another model: '{name}' is {theirs.get(name)} in it, {ours.get(name)} here")


def take_up(snapshot: Snapshot, model: TrainyardModel, optimizer: AdamW, device: torch.device) -> State:
    """Bring a model and its optimiser to a checkpoint that was checked; where the training is by it."""
    torch.set_num_threads(snapshot.state["threads"])  # another number of threads sums in another order: other bits
    model.load_trainable_state({k: v.to(device) for k, v in _below("model.", snapshot).items()})
    optimizer.load_tensors(_below("optimizer.", snapshot))
    return State.from_json(snapshot.state)


def _below(prefix: str, snapshot: Snapshot) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in snapshot.tensors.items() if k.startswith(prefix)}
