"""Lower bounds that owe nothing to a solver's word: no plan can be shorter.

The load bound is Lagrangian: for any weights λ of the lanes, the cheapest place of every task under λ adds up to less than the lanes
can hold (Lenstra, Shmoys, Tardos 1990 for the linear program it approaches). The others are the longest chain, and the load bound of
the tasks that something must follow or precede.
"""

import numpy as np

from trainyard.plan.problem import Problem

ROUNDS = 300


def lower_bound(problem: Problem, upper: float, rounds: int = ROUNDS) -> float:
    """Hours that no plan goes below, given one of `upper` hours."""
    best = _chain_bound(problem)
    for cut in cuts(problem.tails, 12):
        best = max(best, load_bound(problem, problem.tails >= cut, upper - cut, rounds) + cut)
    for cut in cuts(problem.heads, 12)[1:]:
        best = max(best, load_bound(problem, problem.heads >= cut, upper, rounds, cut))
    return min(best, upper)


def load_bound(problem: Problem, keep: np.ndarray, upper: float, rounds: int = ROUNDS, head: float = 0.0) -> float:
    """Hours that the kept tasks take at least on all lanes together. `head`: none of them starts before."""
    return _priced(problem, keep, upper, rounds, head)[0]


def lane_prices(problem: Problem, upper: float, rounds: int = ROUNDS) -> np.ndarray:
    """Weights of the lanes, summing to 1, at the best load bound: what an hour of each is worth. hours × prices say where tasks belong."""
    return _priced(problem, np.ones(len(problem.tasks), dtype=bool), upper, rounds, 0.0)[1]


def _priced(problem: Problem, keep: np.ndarray, upper: float, rounds: int, head: float) -> tuple[float, np.ndarray]:
    """The load bound, and the lanes' weights that gave it."""
    weights = np.full(len(problem.lanes), 1.0 / len(problem.lanes))
    joins = np.maximum(np.array([lane.joins for lane in problem.lanes]), head)
    hours = np.where(problem.hours + joins > upper + 1e-9, np.inf, problem.hours)[keep]
    if not len(hours):
        return 0.0, weights
    if not np.isfinite(hours.min(axis=1)).all():
        return upper, weights  # a task that fits nowhere below `upper`: nothing shorter exists
    best = float((hours + joins).min(axis=1).max())
    copy = problem.copy[np.unique(problem.data[keep])]
    finite = np.where(np.isfinite(hours), hours, 1e9)
    found = weights
    rows = np.arange(len(hours))
    step = 1.0
    stale = 0
    for _ in range(rounds):
        priced = finite * weights
        place = priced.argmin(axis=1)
        value = _capacity(problem, weights, joins, float(priced[rows, place].sum() + (copy * weights).min(axis=1).sum()), upper)
        if value > best * (1 + 1e-7):
            best, stale, found = value, 0, weights
        else:
            stale += 1
            if stale >= 8:
                step, stale = step / 2, 0
        load = np.bincount(place, finite[rows, place], len(joins)) + joins
        mean = float(load @ weights)
        # Multiplicative weights: lanes that the prices overfill become dearer.
        weights = weights * np.exp(step * np.clip(load / max(mean, 1e-12) - 1, -1, 1))
        weights /= weights.sum()
        if step < 1e-4:
            break
    return best, found


def _capacity(problem: Problem, weights: np.ndarray, joins: np.ndarray, priced: float, upper: float) -> float:
    """The least C for which the lanes' weighted hours until C reach `priced`."""
    if np.isposinf([lane.useful for lane in problem.lanes]).all():
        order = np.argsort(joins)
        total = np.cumsum(weights[order])
        held = np.cumsum(weights[order] * joins[order])
        found = (priced + held) / np.maximum(total, 1e-300)
        # Lanes that join after C hold nothing until C.
        following = np.append(joins[order][1:], np.inf)
        return float(found[np.argmax(found <= following + 1e-12)])
    low, high = 0.0, max(upper, 1e-9)
    for _ in range(50):
        middle = (low + high) / 2
        if float(weights @ _work_until(problem, joins, middle)) < priced:
            low = middle
        else:
            high = middle
    return low


def _work_until(problem: Problem, joins: np.ndarray, hours: float) -> np.ndarray:
    """Work that each lane can have done by then, sessions counted."""
    useful = np.array([lane.useful for lane in problem.lanes])
    later = np.array([lane.later for lane in problem.lanes])
    pause = np.array([lane.pause for lane in problem.lanes])
    left = np.maximum(hours - joins, 0.0)
    first = np.minimum(left, useful)
    with np.errstate(invalid="ignore"):
        cycle = later + pause
        rest = np.maximum(left - useful, 0.0)
        full = np.floor(rest / cycle)
        more = full * later + np.clip(rest - full * cycle - pause, 0.0, later)
    return first + np.where(np.isfinite(cycle) & np.isfinite(useful), more, 0.0)


def cuts(values: np.ndarray, most: int | None = None) -> list[float]:
    """0 and the distinct values, at most about `most`: the tasks at or above each make a bound of their own.

    Of values that differ by less than rounding the smallest stands, so that `values >= cut` keeps all of them.
    """
    distinct = np.unique(values)
    distinct = distinct[np.append(True, np.diff(distinct) > 1e-9)] if len(distinct) else distinct
    if most is not None and len(distinct) > most:
        distinct = distinct[np.linspace(0, len(distinct) - 1, most).astype(int)]
    return sorted({0.0, *map(float, distinct)})


def _chain_bound(problem: Problem) -> float:
    """The longest chain of tasks, each on its fastest lane."""
    joins = np.array([lane.joins for lane in problem.lanes])
    first = (problem.hours + joins).min(axis=1)
    alone = problem.hours.min(axis=1)
    return float(np.maximum(problem.heads + alone, first).__add__(problem.tails).max())
