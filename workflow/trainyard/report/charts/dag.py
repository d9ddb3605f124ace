"""The workflow as a chain of steps, with how many jobs of each are done, failed, or were not needed."""

from collections import Counter
from dataclasses import dataclass

from markupsafe import Markup

from trainyard.report.charts.svg import figure, line, tag, text
from trainyard.report.views.whole import Job

BOX, HIGH, GAP = 92.0, 46.0, 16.0
STEPS = (
    ("generate", ("generate",)),
    ("index", ("index",)),
    ("split", ("split",)),
    ("local copy", ("copy",)),
    ("preflight", ("preflight",)),
    ("base model", ("build_base",)),
    ("train", ("train", "run_script")),
    ("evaluate", ("evaluate", "fit_")),
    ("merge", ("merge",)),
    ("validate", ("validate",)),
    ("compare", ("compare",)),
    ("report", ("build_report",)),
)
SOMETIMES = {"generate", "base model", "merge", "validate"}  # shown only where there are such jobs


@dataclass(frozen=True)
class Step:
    name: str
    done: int
    failed: int
    other: int

    @property
    def state(self) -> str:
        return "failed" if self.failed else "open" if self.other else "done" if self.done else "none"


def steps(jobs: tuple[Job, ...]) -> list[Step]:
    """The steps in order, each with its jobs counted by state."""
    found = []
    for name, starts in STEPS:
        own = [j.state for j in jobs if j.rule.startswith(starts)]
        if name == "report":  # while this page is built its own job still runs
            own = ["done" if state == "running" else state for state in own]
        states = Counter(own)
        failed = states["failed"] + states["interrupted"]
        if name in SOMETIMES and not own:
            continue
        found.append(Step(name, states["done"], failed, sum(states.values()) - states["done"] - failed))
    return found


def dag(jobs: tuple[Job, ...], label: str) -> Markup:
    parts: list[Markup] = []
    found = steps(jobs)
    for i, step in enumerate(found):
        x = i * (BOX + GAP)
        if i:
            parts += [
                line(x - GAP + 1, HIGH / 2, x - 4, HIGH / 2, "ax"),
                tag("path", d=f"M{x - 7:.0f} {HIGH / 2 - 3.5:.1f}l5 3.5l-5 3.5", class_="arrow"),
            ]
        counts = ((step.done, "✓", "done"), (step.failed, "✕", "failed"), (step.other, "…", "open"))
        said = ", ".join(f"{n} {word}" for n, _, word in counts if n) or "no job seen"
        parts.append(
            tag(
                "rect",
                tag("title", f"{step.name}: {said}"),
                x=x + 0.75,
                y=0.75,
                width=BOX - 1.5,
                height=HIGH - 1.5,
                rx=7,
                class_=f"step {step.state}",
            )
        )
        parts.append(text(x + BOX / 2, 19, step.name, "tb", "middle"))
        parts.append(
            text(
                x + BOX / 2,
                35,
                "  ".join(f"{n} {mark}" for n, mark, _ in counts if n) or "–",
                "tm" + (" bad" if step.failed else ""),
                "middle",
                tip=said,
            )
        )
    label += ": " + "; ".join(f"{s.name} {s.done} done, {s.failed} failed, {s.other} open" for s in found)
    return figure(len(found) * (BOX + GAP) - GAP, HIGH + 2, label, parts, "chart wide")
