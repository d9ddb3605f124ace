"""From predictions to metrics.json: figures with intervals, and paired differences to the baselines. No torch.

The model and its baselines predicted the same items, so each difference is taken on the same items and the same drawn
groups: it is far surer than two separate intervals suggest.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trainyard.config.architectures import ARCHITECTURES
from trainyard.report.intervals import DRAWS, FEW_GROUPS, SEED, Interval, draw, interval
from trainyard.report.metrics import Metric, PartData, metrics_of

LEVELS = ("trivial", "simple", "member")  # what a run is held against; the best member only of an ensemble


class EvaluationError(ValueError):
    """Predictions that cannot be evaluated: which, why, what to do."""


def evaluate(settings: dict[str, Any], predictions: Path, baselines: Path | None, train: dict[str, Any]) -> dict[str, Any]:
    """The content of metrics.json; `train` is that of train.json. Raises EvaluationError."""
    table = read_predictions(predictions)
    base = read_predictions(baselines) if baselines else None
    groups_known = not pc.all(pc.equal(table["id"], table["group"])).as_py()
    notes = [] if groups_known else ["groups unknown: may leak"]
    metrics: list[dict[str, Any]] = []
    for split, part in _parts(table):
        rivals = _rivals(base, split, part) if base is not None else {}
        metrics += _evaluate_part(_select(table, split, part), rivals, split, part, predictions, notes)
    headline = _headline(settings, metrics)
    notes += [_beside_member(m) for m in metrics if "vs_member" in m and headline and headline.items() <= m.items()]
    return {
        "suite": settings["suite"], "run": settings["run"], "model": settings["model"], "state": "done",
        "headline": headline, "groups_known": groups_known, "notes": notes,
        "run_info": train.get("run_info", {}), "train_info": train.get("train_info", {}),
        "meta_info": {**train.get("meta_info", {}), "bootstrap": {"draws": DRAWS, "seed": SEED, "over": "groups"}},
        "metrics": metrics,
    }  # fmt: skip


def _evaluate_part(
    rows: pa.Table, rivals: dict[tuple[str, str], pa.Table], split: str, part: str, path: Path, notes: list[str]
) -> list[dict]:
    names = pc.unique(rows["group"]).to_pylist()
    numbers = {name: i for i, name in enumerate(sorted(names))}
    data = part_data(rows, numbers, f"{path}: part {part}, {split}")
    others = {
        key: _aligned(part_data(r, numbers, f"baseline {key[1]}: part {part}, {split}"), data, key[1], split, part)
        for key, r in rivals.items()
    }
    if data.groups < FEW_GROUPS:
        notes.append(f"{split}, {part}: only {data.groups} groups: the intervals are rough")
    trivial_mean = next(
        (o.prediction for (level, name), (o, m) in others.items() if level == "trivial" and "mean" in name and m is data), None
    )
    entries = []
    for metric in metrics_of(data.kind):
        own = metric.estimator(data, trivial_mean)
        if own is None:
            if data.prediction.shape[1] == 2:
                notes.append(f"{split}, {part}: {metric.name} needs both classes among the targets")
            continue
        estimates, keys = [own], []
        for key, (other, same) in others.items():
            reference = trivial_mean if same is data else None
            theirs, mine = metric.estimator(other, reference), own if same is data else metric.estimator(same, reference)
            if theirs is not None and mine is not None:
                estimates += [theirs, mine]
                keys.append(key)
        values, draws = draw(estimates, data.groups)
        if not np.isfinite(values[0]):
            notes.append(f"{split}, {part}: {metric.name} does not exist for these targets")
            continue
        entries.append(_entry(metric, data, split, part, values, draws, keys))
    return entries


def _entry(metric: Metric, data: PartData, split: str, part: str, values: np.ndarray, draws: np.ndarray, keys: list) -> dict[str, Any]:
    own = interval(values[0], draws[:, 0])
    entry: dict[str, Any] = {
        "part": part, "split": split, "kind": metric.kind, "metric": metric.name, **_fields(own), "direction": metric.direction,
        "n": int(data.count.sum()) if data.kind == "tokens" else len(data.item), "groups": data.groups,
    }  # fmt: skip
    for level in LEVELS:
        # Of several baselines of a level the best one counts, chosen on these very items: the choice that favours it.
        mine = [(metric.sign * values[1 + 2 * i], i) for i, key in enumerate(keys) if key[0] == level and np.isfinite(values[1 + 2 * i])]
        if not mine:
            continue
        i = max(mine)[1]
        theirs, ours = 1 + 2 * i, 2 + 2 * i
        gain = interval(metric.sign * (values[ours] - values[theirs]), metric.sign * (draws[:, ours] - draws[:, theirs]), difference=True)
        entry[level] = {"name": keys[i][1], "value": float(values[theirs])}
        fields = _fields(gain)
        entry[f"vs_{level}"] = {"difference": fields.pop("value"), **fields, "p_better": gain.p_better}
    return entry


def _fields(found: Interval) -> dict[str, float | None]:
    return {"value": float(found.value), "ci_low": found.low, "ci_high": found.high, "sd": found.sd}


def _beside_member(m: dict[str, Any]) -> str:
    """How an ensemble stands beside its best member, in words."""
    gain, name = m["vs_member"], m["member"]["name"]
    between = f" [{gain['ci_low']:.3f}, {gain['ci_high']:.3f}]" if gain["ci_low"] is not None else ""
    sure = f", {100 * gain['p_better']:.0f} % sure that it is better" if gain["p_better"] is not None else ""
    what = f"{m['part']} {m['metric']}"
    return f"beside its best member, {name} ({m['member']['value']:.3f}): {gain['difference']:+.3f}{between} in {what}{sure}"


def part_data(rows: pa.Table, numbers: dict[str, int], where: str) -> PartData:
    """Rows of one part, split (and baseline) as arrays. Raises EvaluationError on figures that are not numbers."""
    kinds = pc.unique(rows["kind"]).to_pylist()
    if len(kinds) != 1:
        raise EvaluationError(f"{where}: predictions of several kinds: {kinds}")
    item = np.array(rows["item"].to_pylist())
    group = np.array([numbers.get(g, -1) for g in rows["group"].to_pylist()], np.int64)
    if len(np.unique(item)) != len(item):
        raise EvaluationError(f"{where}: an item is there twice; delete the file and run again")
    target, lengths = _flat(rows["target"])
    prediction, predicted = _flat(rows["prediction"])
    numbers_of = [rows[name].to_numpy().astype(np.float64) for name in ("nll", "correct", "count")]
    if not (np.isfinite(prediction).all() and np.isfinite(target).all() and np.isfinite(numbers_of[0]).all()):
        raise EvaluationError(f"{where}: some predictions are not numbers: the training diverged; lower the learning rate")
    owner = np.repeat(np.arange(len(item)), lengths)
    if kinds[0] == "class":
        width = predicted[0] if len(predicted) else 0
        if (lengths != 1).any() or (predicted != width).any():
            raise EvaluationError(f"{where}: a class needs one target and one probability a class")
        target, prediction = target.astype(np.int64), prediction.reshape(len(item), width)
    elif (lengths != predicted).any():
        raise EvaluationError(f"{where}: targets and predictions differ in number")
    return PartData(kinds[0], item, group, len(numbers), target, prediction, owner, *numbers_of)


def _aligned(other: PartData, data: PartData, name: str, split: str, part: str) -> tuple[PartData, PartData]:
    """The baseline's and the model's items that both have, in the same order; the model's own object if that is all."""
    if other.kind != data.kind:
        raise EvaluationError(f"baseline {name} predicts {part} as {other.kind}, the model as {data.kind}")
    place = {item: i for i, item in enumerate(other.item.tolist())}
    have = np.array([i for i, item in enumerate(data.item.tolist()) if item in place], np.int64)
    if len(have) == 0:
        raise EvaluationError(f"baseline {name}: no {split} item in common with the model, such as '{other.item[0]}' and '{data.item[0]}'")
    mine = data if len(have) == len(data.item) else _take(data, have)
    theirs = replace(_take(other, np.array([place[i] for i in data.item[have].tolist()])), group=mine.group)
    if data.kind in ("class", "values") and not (theirs.target.shape == mine.target.shape and np.allclose(theirs.target, mine.target)):
        raise EvaluationError(f"baseline {name}: other targets than the model's, in part {part}, {split}; fit it again on the same packs")
    return theirs, mine


def _take(data: PartData, rows: np.ndarray) -> PartData:
    items = {
        "item": data.item[rows],
        "group": data.group[rows],
        "nll": data.nll[rows],
        "correct": data.correct[rows],
        "count": data.count[rows],
    }
    if data.kind == "class":
        return replace(data, target=data.target[rows], prediction=data.prediction[rows], owner=np.arange(len(rows)), **items)
    lengths = np.bincount(data.owner, minlength=len(data.item))
    starts = np.concatenate([[0], lengths.cumsum()])
    index = np.concatenate([np.arange(starts[r], starts[r + 1]) for r in rows] or [np.zeros(0, int)]).astype(np.int64)
    owner = np.repeat(np.arange(len(rows)), lengths[rows])
    return replace(data, target=data.target[index], prediction=data.prediction[index], owner=owner, **items)


def _flat(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
    values = pc.list_flatten(column).to_numpy()
    return values.astype(np.float64), lengths


def read_predictions(path: Path) -> pa.Table:
    try:
        table = pq.ParquetFile(path).read()
    except (OSError, pa.ArrowInvalid) as error:
        raise EvaluationError(f"{path}: cannot be read as predictions: {' '.join(str(error).split())}") from None
    missing = {"item", "id", "group", "split", "part", "kind", "target", "prediction", "nll", "correct", "count"} - set(table.column_names)
    if missing or table.num_rows == 0:
        raise EvaluationError(f"{path}: {'lacks ' + ', '.join(sorted(missing)) if missing else 'holds no prediction'}")
    return table


def _parts(table: pa.Table) -> list[tuple[str, str]]:
    """(split, part), test first, parts in the model's order."""
    found = list(dict.fromkeys(zip(table["split"].to_pylist(), table["part"].to_pylist())))
    return sorted(found, key=lambda sp: sp[0] != "test")


def _select(table: pa.Table, split: str, part: str) -> pa.Table:
    return table.filter(pc.and_(pc.equal(table["split"], split), pc.equal(table["part"], part)))


def _rivals(base: pa.Table, split: str, part: str) -> dict[tuple[str, str], pa.Table]:
    rows = _select(base, split, part)
    names = dict.fromkeys(zip(rows["level"].to_pylist(), rows["name"].to_pylist()))
    return {(lv, nm): rows.filter(pc.and_(pc.equal(rows["level"], lv), pc.equal(rows["name"], nm))) for lv, nm in names}


def _headline(settings: dict[str, Any], metrics: list[dict[str, Any]]) -> dict[str, str] | None:
    """Part, split and metric that stand for the run: the first part on the test split, in its architecture's metric."""
    if not metrics:
        return None
    first = metrics[0]
    spec = ARCHITECTURES.get(settings.get("architecture", ""))
    mine = [m for m in metrics if (m["split"], m["part"]) == (first["split"], first["part"])]
    chosen = next((m for m in mine if spec and m["metric"] == spec.headline), first)
    return {key: chosen[key] for key in ("part", "split", "metric")}
