"""What some suites have beside their runs: the promotion's decision, and attention maps."""

from pathlib import Path
from typing import Any

import numpy as np

from trainyard.report.loose import Loose, inner, listed, number, objects, whole, words
from trainyard.report.views.extras import Attention, Promotable, Promotion
from trainyard.report.views.runs import Model


def read_promotion(files: Loose, folder: Path) -> Promotion | None:
    found = files.object(folder / "promotion.json")
    if not found:
        return None
    slots = {str(inner(inner(found, "slots"), slot).get("run")): slot for slot in inner(found, "slots")}
    return Promotion(
        metric=f"{found.get('part')} {found.get('metric')}",
        direction=str(found.get("direction") or "max"),
        from_epochs=whole(found.get("from_epochs")),
        to_epochs=whole(found.get("to_epochs")),
        groups=whole(found.get("groups")),
        chance_dropped_best=number(found.get("chance_dropped_best")),
        candidates=tuple(_candidate(row, slots) for row in objects(found, "candidates")),
        notes=tuple(words(note) for note in listed(found, "notes")),
    )


def _candidate(row: dict[str, Any], slots: dict[str, str]) -> Promotable:
    run, keys = str(row.get("run") or ""), ("value", "ci_low", "ci_high", "chance_best", "chance_among_kept")
    return Promotable(run, slots.get(run, ""), *(number(row.get(key)) for key in keys))


def read_attention(files: Loose, folder: Path, models: list[Model]) -> list[Attention]:
    """The samples of every run that has attention maps."""
    from trainyard.data.pack import Pack

    found = []
    for run in (r for m in models for r in m.runs):
        path = folder / "attention" / f"{run.name}.safetensors"
        if not path.exists():
            continue
        try:
            pack = Pack(path)
            steps, rows, columns = (int(n) for n in pack.meta["grid"])
            for i in range(len(pack)):
                arrays = [np.array(pack.fixed(key)[i]) for key in ("frames", "received", "between")]
                name, true, told = (pack.text(key, i) for key in ("id", "true", "told"))
                sample = Attention(run.name, name, true, told, (steps, rows, columns), arrays[0], arrays[1][-1], arrays[2][-1])
                if sample.whole:
                    found.append(sample)
                else:
                    files.problems.append(f"{files.name(path)}: its arrays do not fit together")
        except (OSError, ValueError, KeyError, TypeError) as error:
            files.problems.append(f"{files.name(path)}: {error}")
    return found
