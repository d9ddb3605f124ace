"""An ensemble: the mean of several runs' predictions for the same items, from their files alone, without torch.

Probabilities of a class and values are averaged with equal weights (deep ensembles: https://arxiv.org/abs/1612.01474). Parts whose
predictions are summed likelihoods or hits have no mean and are left out.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trainyard.data.arrow import list_column, make_table, number_column, text_column
from trainyard.data.predictions import NUMBERS, PartOutput
from trainyard.report.evaluate import EvaluationError, read_predictions
from trainyard.report.promotion import Candidate, same_question

AVERAGED = ("class", "values")


def average(members: Sequence[Candidate]) -> pa.Table:
    """The predictions of the ensemble. Raises EvaluationError when members predicted different items or targets."""
    tables = [read_predictions(m.predictions) for m in members]
    shared = set.intersection(*(set(zip(t["part"].to_pylist(), t["kind"].to_pylist())) for t in tables))
    # In the models' own order: the first part is the headline.
    parts = [p for p in pc.unique(tables[0]["part"]).to_pylist() if any((p, kind) in shared for kind in AVERAGED)]
    if not parts:
        raise EvaluationError(f"{', '.join(m.run for m in members)} share no part with probabilities or values that could be averaged")
    return pa.concat_tables([_average_part(members, tables, part) for part in parts])


def _average_part(members: Sequence[Candidate], tables: Sequence[pa.Table], part: str) -> pa.Table:
    rows = [t.filter(pc.equal(t["part"], part)).sort_by([("split", "ascending"), ("item", "ascending")]) for t in tables]
    first = rows[0]
    for member, other in zip(members[1:], rows[1:]):
        for column in ("item", "split", "target"):
            if other[column].to_pylist() != first[column].to_pylist():
                raise EvaluationError(f"{member.run} and {members[0].run} differ in the {column}s of {part}: they cannot be averaged")
    predictions = [[np.asarray(p, np.float64) for p in t["prediction"].to_pylist()] for t in rows]
    if any(len(p) != len(q) for other in predictions[1:] for p, q in zip(predictions[0], other)):
        raise EvaluationError(f"{', '.join(m.run for m in members)}: their predictions of {part} differ in length: they cannot be averaged")
    mean = [np.mean(of_item, axis=0) for of_item in zip(*predictions)]
    target = [np.asarray(t) for t in first["target"].to_pylist()]
    if first["kind"][0].as_py() == "class":
        out = PartOutput.classes(np.array([int(t[0]) for t in target]), np.stack(mean))
    else:
        out = PartOutput.values(target, mean)
    texts = {name: text_column(first[name].to_pylist()) for name in ("item", "id", "group", "split", "part", "kind")}
    lists = {"target": list_column(list(out.target)), "prediction": list_column(list(out.prediction))}
    numbers = {name: number_column(getattr(out, name), dtype) for name, dtype in NUMBERS.items()}
    return make_table({**texts, **lists, **numbers})


def best_member(members: Sequence[Candidate]) -> Candidate:
    """The member that is best on the validation split; test predictions take no part in naming it."""
    _, metric, data = same_question(members)
    ones = np.ones((1, data[0].groups))
    scores = [metric.sign * float(e(ones)[0]) if (e := metric.estimator(d, None)) else -np.inf for d in data]
    return members[int(np.argmax(scores))]


def rivals(baselines: Path, best: Candidate) -> pa.Table:
    """What the ensemble is held against: the baselines of its members, and its best member."""
    base = read_predictions(baselines)
    member = read_predictions(best.predictions)
    for column, value in (("level", "member"), ("name", best.run)):
        member = member.append_column(column, text_column([value] * member.num_rows))
    return pa.concat_tables([base, member.select(base.column_names)], promote_options="permissive")


def ensemble_info(settings: dict[str, Any], members: Sequence[Candidate], best: Candidate) -> dict[str, Any]:
    """train.json of the ensemble: what it costs to have all its members."""
    total = lambda key: sum(m.train["train_info"].get(key) or 0 for m in members)  # noqa: E731
    names = [m.run for m in members]
    return {
        "train_info": {"seconds": round(total("seconds"), 3), "parameters": total("parameters"), "bytes": total("bytes")},
        "meta_info": {
            "settings": settings, "members": names, "best_member": best.run,
            "report": {"ensemble": f"mean of {', '.join(names)}; the best of them on validation is {best.run}"},
        },
    }  # fmt: skip
