"""A promoted run: the long training of the run that the decision names, on from where its short training ended.

The long training is the same job as that model with more epochs, so it has the same fingerprint and the same checkpoints: a slot that
another run takes later, or that is trained again, goes on from what there is. Checkpoints are no rule's output; where they are gone
the training starts from the beginning, and ends in the same bits.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.data.files import read_json


@dataclass(frozen=True)
class Promoted:
    """`slot` is its name, `long` are the settings of the whole training, `short` those of the part that is done."""

    slot: str
    long: dict[str, Any]
    short: dict[str, Any]

    @property
    def run(self) -> str:
        return self.short["run"]

    def folder(self, checkpoints: str | Path) -> Path:
        """Where the checkpoints of the run are that goes on; `checkpoints` is the slot's folder."""
        return Path(checkpoints).parent / self.run

    @property
    def words(self) -> str:
        return f"goes on with {self.run}, from epoch {self.short['epochs']} to {self.long['epochs']}"


def read_slot(decision: str | Path, slot: str) -> Promoted:
    """What promotion.json has in a slot. Raises ValueError."""
    found = read_json(decision)
    slots = found.get("slots") if isinstance(found, dict) else None
    if not isinstance(slots, dict) or not all(isinstance(s, dict) and {"epochs", "settings"} <= s.keys() for s in slots.values()):
        raise ValueError(f"{decision}: is no decision of a promotion; call decide_promotion again")
    if slot not in slots:
        raise ValueError(f"{decision}: has no slot '{slot}', only {', '.join(slots) or 'none'}; call decide_promotion again")
    short = slots[slot]["settings"]
    return Promoted(slot, {**short, "epochs": slots[slot]["epochs"]}, short)
