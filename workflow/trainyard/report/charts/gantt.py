"""What ran when: a band a rule, jobs side by side where they overlapped."""

from markupsafe import Markup

from trainyard.report.charts.svg import CHARACTER, Scale, figure, line, shortened, tag, text
from trainyard.report.numbers import duration
from trainyard.report.views.whole import Job

WIDTH, LANE, LEFT = 1330.0, 13.0, 150.0
STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)


def gantt(jobs: tuple[Job, ...], suites: list[str], label: str, idle: tuple[tuple[float, float], ...] = ()) -> Markup:
    """Jobs without times are left out; their number is in the caption."""
    timed = [j for j in jobs if j.timed]
    if not timed:
        return Markup("")
    total = max(max(j.end for j in timed), 1e-3)
    scale = Scale(0, total, LEFT, WIDTH - 6)
    parts: list[Markup] = []
    y = 4.0
    for rule in dict.fromkeys(j.rule for j in timed):
        lanes = _lanes([j for j in timed if j.rule == rule])
        parts.append(line(0, y, WIDTH, y, "rule"))
        parts.append(text(0, y + 11, shortened(rule, 23), "tb" if len(lanes) > 1 else "t", tip=rule))
        for lane in lanes:
            parts += [_bar(j, scale, y + 1.5, suites) for j in lane]
            y += LANE
        y += 3
    step = next((s for s in STEPS if total / s <= 10), STEPS[-1])
    ticks = [
        tag("g", line(scale(t), 0, scale(t), y, "grid"), text(scale(t), y + 13, duration(t) if t else "0", "tm", "middle"))
        for t in _times(total, step)
    ]
    breaks = [
        tag("g", tag("title", f"{duration(length)} without a job, cut out"), line(scale(at), 0, scale(at), y, "kept"))
        for at, length in idle
    ]
    return figure(WIDTH, y + 18, label, [*ticks, *breaks, *parts], "chart wide")


def _times(total: float, step: float) -> list[float]:
    return [float(i * step) for i in range(int(total // step) + 1)]


def _lanes(jobs: list[Job]) -> list[list[Job]]:
    """Jobs in as few lanes as never overlap (greedy by start)."""
    lanes: list[list[Job]] = []
    for job in sorted(jobs, key=lambda j: j.start):
        lane = next((found for found in lanes if found[-1].end <= job.start + 1e-6), None)
        if lane is None:
            lanes.append([job])
        else:
            lane.append(job)
    return lanes


def _bar(job: Job, scale: Scale, y: float, suites: list[str]) -> Markup:
    x, width = scale(job.start), max(1.5, scale(job.end) - scale(job.start) - 1)
    of = suites.index(job.suite) % 6 if job.suite in suites else 6
    name = job.run or job.suite
    attempt = f", attempt {job.attempts}" if job.attempts else ""
    tip = f"{job.rule} {job.suite}/{job.run}: {job.state}, {duration(job.end - job.start)}{attempt}"
    bad = job.state in ("failed", "interrupted")
    fits = int((width - 6) / CHARACTER)
    words = None
    if fits >= 4:
        words = text(x + 4, y + 8.5, shortened(("✕ " if bad else "") + name, fits), "job")
    elif bad:
        words = text(x + width / 2, y + 9, "✕", "jobx", "middle")
    bar = tag("rect", x=x, y=y, width=width, height=LANE - 2.5, rx=2, class_=f"job s{of}" + (" bad" if bad else ""))
    return tag("g", tag("title", tip), bar, words)
