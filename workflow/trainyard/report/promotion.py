"""Which runs go on after a short budget, and how sure that choice is. From validation predictions alone, without torch.

All candidates predicted the same items, so they are compared on the same draws of whole groups (a paired bootstrap, see
intervals): the share of draws in which a run came out best is the chance that it is the best, as far as these data can tell.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trainyard.config.architectures import ARCHITECTURES
from trainyard.data.files import read_json
from trainyard.report.evaluate import EvaluationError, part_data, read_predictions
from trainyard.report.intervals import DRAWS, FEW_GROUPS, SEED, draw, interval
from trainyard.report.metrics import Metric, PartData, metrics_of

SPLIT = "validation"  # the only one that may take part in a choice


@dataclass(frozen=True)
class Candidate:
    """A run that may go on: its name, its predictions file and its train.json."""

    run: str
    predictions: Path
    train: dict[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        return self.train["meta_info"]["settings"]


def read_candidates(predictions: Sequence[Path], infos: Sequence[Path]) -> list[Candidate]:
    """Candidates from their predictions.parquet and train.json files, in the same order. Raises ValueError."""
    if len(predictions) != len(infos):
        raise ValueError(f"--predictions names {len(predictions)} files, --train-json {len(infos)}: one a run is needed")
    return [_candidate(path, read_json(info), info) for path, info in zip(predictions, infos)]


def _candidate(predictions: Path, train: Any, info: Path) -> Candidate:
    try:
        settings = train["meta_info"]["settings"]
        known = "run" in settings and settings["architecture"] in ARCHITECTURES and isinstance(train["train_info"], dict)
    except (KeyError, TypeError, AttributeError):
        known = False
    if not known:
        raise ValueError(f"{info}: is no train.json of a training: needs train_info, and run and architecture in meta_info.settings")
    return Candidate(settings["run"], predictions, train)


def decide(promote: dict[str, Any], candidates: Sequence[Candidate]) -> dict[str, Any]:
    """The content of promotion.json. `promote`: suite, keep, from_epochs, to_epochs. Raises EvaluationError."""
    for c in candidates:
        if c.settings.get("epochs") != promote["from_epochs"]:
            raise EvaluationError(
                f"{c.run} was trained for {c.settings.get('epochs')} epochs, not for {promote['from_epochs']}: train it again"
            )
    if type(keep := promote["keep"]) is not int or not 1 <= keep < len(candidates):
        raise EvaluationError(f"keep: of {len(candidates)} candidates 1 or more go on, and not all, not {keep!r}")
    part, metric, data = same_question(candidates)
    values, draws = draw([e for e in (metric.estimator(d, None) for d in data) if e is not None], data[0].groups)
    if len(values) != len(candidates) or not np.isfinite(values).all():
        raise EvaluationError(
            f"{metric.name} of {part} does not exist on the validation split of {promote['suite']}: it needs more samples"
        )
    best, among = _chances(metric.sign * draws, promote["keep"])
    order = sorted(range(len(candidates)), key=lambda i: (-metric.sign * values[i], -(best[i] or 0), i))
    kept, dropped = order[: promote["keep"]], order[promote["keep"] :]
    rows = []
    for place, i in enumerate(order, 1):
        own = interval(values[i], draws[:, i])
        # To the last one that is kept; of those that are kept, to the first one that is not.
        other = dropped[0] if i in kept else kept[-1]
        gap = interval(metric.sign * (values[i] - values[other]), metric.sign * (draws[:, i] - draws[:, other]), difference=True)
        rows.append({
            "run": candidates[i].run, "place": place, "kept": i in kept, "value": own.value, "ci_low": own.low, "ci_high": own.high,
            "chance_best": best[i], "chance_among_kept": among[i],
            "against": {
                "run": candidates[other].run, "difference": gap.value, "ci_low": gap.low, "ci_high": gap.high, "p_better": gap.p_better,
            },
        })  # fmt: skip
    regret = None if best[order[0]] is None else float(sum(best[i] for i in dropped))
    return {
        "suite": promote["suite"], "split": SPLIT, "part": part, "metric": metric.name, "direction": metric.direction,
        "items": len(data[0].item), "groups": data[0].groups, "from_epochs": promote["from_epochs"], "to_epochs": promote["to_epochs"],
        "chance_dropped_best": regret, "bootstrap": {"draws": DRAWS, "seed": SEED, "over": "groups"},
        "candidates": rows, "notes": _notes(rows, regret, data[0].groups),
        "slots": {f"promoted-{k}": _slot(candidates[i], promote) for k, i in enumerate(kept, 1)},
    }  # fmt: skip


def _slot(candidate: Candidate, promote: dict[str, Any]) -> dict[str, Any]:
    """What the training of a promoted run needs: whose place it takes, and its settings up to now."""
    return {"run": candidate.run, "epochs": promote["to_epochs"], "settings": candidate.settings}


def same_question(candidates: Sequence[Candidate]) -> tuple[str, Metric, list[PartData]]:
    """(part, metric, each candidate's predictions in the same order): the headline metric, in the first part that has it."""
    tables = [_validation_rows(c) for c in candidates]
    spec = ARCHITECTURES[candidates[0].settings["architecture"]]
    for part in pc.unique(tables[0]["part"]).to_pylist():
        rows = [t.filter(pc.equal(t["part"], part)) for t in tables]
        kind = rows[0]["kind"][0].as_py()
        metric = next((m for m in metrics_of(kind) if m.name == spec.headline), None)
        if metric is not None:
            break
    else:
        raise EvaluationError(f"no part of {candidates[0].run} has {spec.headline} to be compared by")
    numbers = {name: i for i, name in enumerate(sorted(pc.unique(rows[0]["group"]).to_pylist()))}
    first = sorted(rows[0]["item"].to_pylist())
    data = []
    for candidate, table in zip(candidates, rows):
        table = table.sort_by("item")
        if table["item"].to_pylist() != first:
            raise EvaluationError(
                f"{candidate.run} and {candidates[0].run} predicted different validation items of {part}: they cannot be compared pair by "
                "pair; train them on the same data, or name those to choose from in promote.models"
            )
        data.append(part_data(table, numbers, f"{candidate.predictions}: part {part}, {SPLIT}"))
    return part, metric, data


def _validation_rows(candidate: Candidate) -> pa.Table:
    table = read_predictions(candidate.predictions)
    rows = table.filter(pc.equal(table["split"], SPLIT))
    if rows.num_rows == 0:
        raise EvaluationError(f"{candidate.predictions}: holds no validation predictions to choose by")
    return rows


def _chances(scores: np.ndarray, keep: int) -> tuple[list, list]:
    """Of scores (draws, runs), higher better: the shares of draws in which each run is the best, and among the `keep` best.

    Runs that tie share a place. None for each where there are too few groups to draw from.
    """
    if len(scores) == 0:
        return [None] * scores.shape[1], [None] * scores.shape[1]
    above = (scores[:, None, :] > scores[:, :, None]).sum(2)  # how many are better
    equal = (scores[:, None, :] == scores[:, :, None]).sum(2)  # itself and its ties
    share = lambda places: (np.clip(places - above, 0, equal) / equal).mean(0).tolist()  # noqa: E731
    return share(1), share(keep)


def _notes(rows: list[dict[str, Any]], regret: float | None, groups: int) -> list[str]:
    kept, dropped = ([r["run"] for r in rows if r["kept"] is k] for k in (True, False))
    words = f"{', '.join(kept)} went on, {', '.join(dropped)} did not"
    if regret is None:
        return [f"{words}; with {groups} group of validation samples nothing can be said about how sure that is"]
    words += f"; the chance that the best was dropped is {_percent(regret)}"
    return [words] + ([f"only {groups} groups of validation samples: that chance is rough"] if groups < FEW_GROUPS else [])


def _percent(p: float) -> str:
    return "below 1 %" if p < 0.01 else f"{100 * p:.0f} %"
