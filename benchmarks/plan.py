"""The planner: the music models' plans with proof, its gap to the bound at size, and plans lived through with surprises.

    python benchmarks/plan.py [--seeds 3] [--only music|size|replay]

Times of solving are wall times of this machine; everything else is a count or a ratio that does not depend on it.
"""

import argparse
import statistics
import sys
import time
from dataclasses import replace

import numpy as np
from bench import REPOSITORY, print_table, verdict
from trainyard.config.command_line import read_config
from trainyard.config.machines import Machine, load_machines
from trainyard.dag.jobs import Jobs
from trainyard.plan.build import build
from trainyard.plan.problem import Lane, Problem, Task
from trainyard.plan.schedule import order_of, schedule
from trainyard.plan.search import longest_first
from trainyard.plan.solve import find_plan
from trainyard.plan.tasks import list_tasks
from trainyard.plan.whatif import given_plans


def music() -> bool:
    """Five models on one Codespace, two, two and a Mac, three and a Mac, beside their owners' own plans."""
    jobs = Jobs(read_config(REPOSITORY, [], ["suites=kmidi", "scale=full"]), REPOSITORY)
    tasks = list_tasks(jobs, REPOSITORY / "no-such-folder", done=True)
    described = load_machines(REPOSITORY / "config/examples/machines_music.yaml")
    described = described.model_copy(update={"machines": {**described.machines, "codespace_d": described.machines["codespace_b"]}})
    owners = {
        ("codespace_a",): {},
        ("codespace_a", "codespace_b"): {
            "codespace_a": ("emotion_recognizer", "dynamics_engine"),
            "codespace_b": ("harmony_predictor", "melody_transformer", "groove_predictor"),
        },
        ("codespace_a", "codespace_b", "mac"): {
            "mac": ("melody_transformer", "harmony_predictor"),
            "codespace_a": ("emotion_recognizer", "dynamics_engine"),
            "codespace_b": ("groove_predictor",),
        },
        ("codespace_a", "codespace_b", "mac", "codespace_d"): {
            "mac": ("melody_transformer", "harmony_predictor"),
            "codespace_a": ("emotion_recognizer",),
            "codespace_b": ("groove_predictor",),
            "codespace_d": ("dynamics_engine",),
        },
    }
    met, rows = True, []
    for (names, parts), expected in zip(owners.items(), (8.0, 4.0, 2.0, 2.0)):
        machines = described.model_copy(
            update={"machines": {n: described.machines[n] for n in names}, "given": {"owners": parts} if parts else {}}
        )
        problem = build(tasks, machines)
        plan = find_plan(problem)
        given = given_plans(problem, machines)
        rows.append([
            ", ".join(names), f"{plan.schedule.makespan:.2f}", f"{plan.bound:.2f}", f"{given[0].hours:.2f}" if given else "–",
            f"{1000 * plan.solving:.0f}", plan.solver,
        ])  # fmt: skip
        met &= verdict(f"{len(names)} machines: {expected:g} h, proven", f"{plan.schedule.makespan:g} h, gap {plan.gap:g}",
                       abs(plan.schedule.makespan - expected) < 1e-9 and plan.gap == 0)  # fmt: skip
        met &= verdict("solved in 0.1 s", f"{plan.solving:.3f} s", plan.solving < 0.1)
    print_table(["machines", "plan h", "bound h", "owners' h", "ms of solving", "solver"], rows)
    return met


def random_problem(seed: int, tasks: int, lanes: int) -> Problem:
    """Log-normal hours on machines one to four times as fast, each ± 25 % of its own (yardstick of the field: unrelated machines)."""
    random = np.random.default_rng(seed)
    hours = random.lognormal(0.5, 0.8, tasks)
    speed = random.choice([1, 1, 1, 2, 3, 4], lanes)
    table = hours[:, None] / speed * random.uniform(0.8, 1.25, (tasks, lanes))
    return Problem(
        tuple(Task("trial", f"run{j}", "model", float(h)) for j, h in enumerate(hours)),
        tuple(Lane(f"m{w}", 0, 0.0, np.inf, np.inf, 0.0) for w in range(lanes)),
        {f"m{w}": Machine() for w in range(lanes)}, table, np.zeros((1, lanes)), np.zeros(tasks, dtype=int),
    )  # fmt: skip


def size(seeds: int) -> bool:
    """Gap to our own lower bound at size, beside longest first."""
    met, rows = True, []
    for tasks, lanes, seconds, goal in ((200, 20, 5, 1.02), (200, 20, 30, 1.01), (5000, 200, 10, 1.05)):
        found = []
        for seed in range(seeds):
            problem = random_problem(seed, tasks, lanes)
            start = time.monotonic()
            plan = find_plan(problem, seconds=seconds)
            took = time.monotonic() - start
            greedy = schedule(problem, longest_first(problem)).makespan
            found.append((plan.value / plan.bound, greedy / plan.bound, took))
            rows.append([f"{tasks} × {lanes}, seed {seed}", f"{found[-1][0]:.4f}", f"{found[-1][1]:.4f}", f"{took:.1f}", plan.solver])
        worst = max(f[0] for f in found)
        met &= verdict(f"{tasks} × {lanes} in {seconds} s: ≤ {goal} × the bound", f"{worst:.4f}", worst <= goal, f"worst of {seeds}")
        met &= verdict("never worse than longest first", f"{max(a - b for a, b, _ in found):.4f}", all(a <= b for a, b, _ in found))
    print_table(["runs × machines", "plan / bound", "longest first / bound", "s", "how"], rows)
    return met


def replay(seeds: int) -> bool:
    """Run times up to 30 % off and one machine lost half way: planning again what is left, against planning with hindsight."""
    met, rows = True, []
    for tasks, lanes in ((12, 3), (40, 5), (60, 8)):
        figures, blind = [], []
        for seed in range(seeds):
            problem = random_problem(seed, tasks, lanes)
            random = np.random.default_rng(1000 + seed)
            truth = problem.hours * random.uniform(0.7, 1.3, (tasks, 1))
            planned = find_plan(problem, seconds=0.5)
            lost = int(random.integers(lanes))
            at = 0.5 * planned.schedule.makespan
            best = find_plan(known(problem, truth, lost, at), seconds=2).schedule.makespan
            figures.append(live(problem, truth, lost, at) / best)
            blind.append(live(problem, truth, lost, at, replan=False) / best)
        rows.append([f"{tasks} × {lanes}", f"{statistics.median(figures):.3f}", f"{max(figures):.3f}", f"{statistics.median(blind):.3f}"])
        met &= verdict(f"{tasks} × {lanes}: ≤ 1.15 × hindsight", f"{statistics.median(figures):.3f}", statistics.median(figures) <= 1.15,
                       f"median of {seeds}; {sum(f <= 1.15 for f in figures)} of {seeds} within, worst {max(figures):.3f}")  # fmt: skip
    print_table(["runs × machines", "planned again, median", "worst", "only when lost"], rows)
    return met


def known(problem: Problem, truth: np.ndarray, lost: int, at: float) -> Problem:
    """What hindsight plans with: true hours, and a machine that is there until `at`."""
    lanes = tuple(replace(lane, useful=at, later=at, pause=np.inf) if w == lost else lane for w, lane in enumerate(problem.lanes))
    hours = truth.copy()
    hours[hours[:, lost] > at, lost] = np.inf
    return replace(problem, hours=hours, lanes=lanes)


def live(problem: Problem, truth: np.ndarray, lost: int, lost_at: float, replan: bool = True) -> float:
    """Hours until all is done when task j on lane w takes truth[j, w] but problem.hours were planned with.

    Lane `lost` is gone from `lost_at` on; its run goes on elsewhere from its last checkpoint, 2 % of its work before. With
    `replan`, what has not started is planned again whenever a run ends; without, only when the lane is lost.
    """
    tasks, lanes = problem.hours.shape
    waiting, share = np.ones(tasks, dtype=bool), np.ones(tasks)
    busy: dict[int, tuple[int, float, float]] = {}  # lane: task, start, end
    queue = queues(problem, find_plan(problem, seconds=0.3).assigned, waiting)
    now, alive = 0.0, np.ones(lanes, dtype=bool)
    while waiting.any() or busy:
        for w in np.flatnonzero(alive):
            if w not in busy and queue.get(int(w)):
                j = queue[int(w)].pop(0)
                waiting[j] = False
                busy[int(w)] = j, now, now + truth[j, w] * share[j]
        now = min([end for _, _, end in busy.values()] + ([lost_at] if alive[lost] else []))
        ended = [w for w, (_, _, end) in busy.items() if end <= now + 1e-12]
        for w in ended:
            del busy[w]
        gone = bool(alive[lost] and now >= lost_at - 1e-12)
        if gone:
            alive[lost] = False
            if lost in busy:
                j, start, end = busy.pop(lost)
                done = share[j] * (now - start) / (end - start)
                share[j] -= max(0.0, done - 0.02)
                waiting[j] = True
        if waiting.any() and (gone or (replan and ended)):
            queue = again(problem, waiting, share, busy, now, alive)
    return now


def again(problem: Problem, waiting: np.ndarray, share: np.ndarray, busy: dict, now: float, alive: np.ndarray) -> dict[int, list[int]]:
    """Plan what is left; a lane at work joins when its run should end by the plan's own hours."""
    rest, keep = np.flatnonzero(waiting), np.flatnonzero(alive)
    lanes = []
    for w in keep:
        until = 0.0
        if int(w) in busy:
            j, start, _ = busy[int(w)]
            planned = problem.hours[j, w] * share[j]
            until = max(planned - (now - start), 0.05 * planned)
        lanes.append(replace(problem.lanes[w], joins=until))
    small = Problem(
        tuple(problem.tasks[j] for j in rest), tuple(lanes), {f"m{w}": Machine() for w in keep},
        (problem.hours * share[:, None])[np.ix_(rest, keep)], problem.copy[:, keep], problem.data[rest],
    )  # fmt: skip
    whole = np.zeros(len(waiting), dtype=int)
    whole[rest] = keep[find_plan(small, seconds=0.1).assigned]
    return queues(problem, whole, waiting)


def queues(problem: Problem, assigned: np.ndarray, waiting: np.ndarray) -> dict[int, list[int]]:
    """Each lane's tasks in their order."""
    queue: dict[int, list[int]] = {}
    for j in order_of(problem):
        if waiting[j]:
            queue.setdefault(int(assigned[j]), []).append(int(j))
    return queue


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="random instances of each kind")
    parser.add_argument("--only", choices=("music", "size", "replay"))
    args = parser.parse_args()
    parts = {"music": music, "size": lambda: size(args.seeds), "replay": lambda: replay(4 * args.seeds)}
    met = [run() for name, run in parts.items() if args.only in (None, name)]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
