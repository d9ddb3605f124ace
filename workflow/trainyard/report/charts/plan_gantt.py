"""The plan as bars: a band a machine, a lane a slot; a thin line in a lane is when its run really ran, from the first start on."""

from typing import Any

from markupsafe import Markup

from trainyard.report.charts.svg import CHARACTER, Scale, figure, line, shortened, tag, text
from trainyard.report.numbers import duration

WIDTH, LANE, LEFT = 1330.0, 22.0, 150.0


def plan_gantt(plan: dict[str, Any], suites: list[str], actual: dict[tuple[str, str], float], began: dict[tuple[str, str], float],
               label: str) -> Markup:  # fmt: skip
    """Bars by machine. `actual`: hours that runs took, `began`: from the first start to theirs, by (suite, run).

    Merges, which have no machine, come last.
    """
    runs = plan["runs"]
    total = max([1e-6, plan["hours"], *(start + actual.get(key, 0.0) for key, start in began.items())])
    scale = Scale(0, total, LEFT, WIDTH - 24)
    parts: list[Markup] = []
    y = 4.0
    for name in [m["name"] for m in plan["machines"]] + [None]:
        mine = [r for r in runs if r["machine"] == name]
        if not mine:
            continue
        parts.append(line(0, y, WIDTH, y, "rule"))
        parts.append(text(0, y + 15, shortened(name or "merges, anywhere", 23), "tb", tip=name))
        for slot in sorted({r["slot"] or 0 for r in mine}):
            for run in (r for r in mine if (r["slot"] or 0) == slot):
                key = run["suite"], run["run"]
                parts.append(_bars(run, actual.get(key), began.get(key, run["start"]), scale, y + 2, suites))
            y += LANE
        y += 4
    unit, per_hour = ("h", 1) if total >= 2 else ("min", 60) if total >= 1 / 30 else ("s", 3600)
    axis = Scale(0, total * per_hour, LEFT, WIDTH - 24)
    ticks = [tag("g", line(axis(t), 0, axis(t), y, "grid"), text(axis(t), y + 13, f"{words} {unit}", "tm", "middle"))
             for t, words in axis.ticks(8)]  # fmt: skip
    end = scale(plan["bound"])
    bound = tag("g", tag("title", f"no plan ends before {duration(3600 * plan['bound'])}"), line(end, 0, end, y, "kept"))
    return figure(WIDTH, y + 18, label, [*ticks, *parts, bound if plan["minimise"] == "time" else Markup("")], "chart wide")


def _bars(run: dict[str, Any], taken: float | None, began: float, scale: Scale, y: float, suites: list[str]) -> Markup:
    of = suites.index(run["suite"]) % 6 if run["suite"] in suites else 6
    tip = f"{run['suite']}/{run['run']}: {duration(3600 * run['hours'])} planned ({run['source']})"
    tip += f", {duration(3600 * taken)} taken" if taken is not None else ""
    parts: list[Markup] = [tag("title", tip)]
    for i, (start, end) in enumerate(run["pieces"]):
        x, width = scale(start), max(1.5, scale(end) - scale(start) - 1)
        parts.append(tag("rect", x=x, y=y, width=width, height=LANE - 8, rx=2, class_=f"job s{of}"))
        fits = int((width - 6) / CHARACTER)
        if i == 0 and fits >= 4:
            parts.append(text(x + 4, y + 10.5, shortened(run["run"], fits), "job"))
    if taken is not None:
        parts.append(tag("rect", x=scale(began), y=y + LANE - 7, width=max(1.5, scale(taken) - scale(0) - 1.5), height=3.0, class_="model"))
    return tag("g", *parts)
