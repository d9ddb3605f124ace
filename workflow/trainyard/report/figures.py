"""The charts of a suite: which figures belong on one axis, and the words each chart is described with."""

from dataclasses import dataclass

from markupsafe import Markup

from trainyard.report.charts.attention import attention
from trainyard.report.charts.curves import curves
from trainyard.report.charts.folds import folds
from trainyard.report.charts.forest import forest
from trainyard.report.charts.matrix import confusion, reliability
from trainyard.report.charts.parts import IN_UNITS, by_part
from trainyard.report.numbers import score_text
from trainyard.report.views.runs import Model, Run, Score
from trainyard.report.views.whole import Suite

MOST_ROWS, MOST_PANELS = 30, 48


@dataclass(frozen=True)
class Chart:
    title: str
    note: str
    svg: Markup
    extra: Markup = Markup("")


def arrow(score: Score) -> str:
    return "↑ higher is better" if score.direction == "max" else "↓ lower is better"


def own_score(run: Run, like: Score | None) -> Score | None:
    """The run's own figure of the same part, split and metric."""
    return next((s for s in run.scores if like and (s.split, s.part, s.metric) == (like.split, like.part, like.metric)), None)


def _single(model: Model, like: Score) -> list[float]:
    """The same figure of the model's own runs, where it has several."""
    found = [own_score(r, like) for r in model.runs] if len(model.runs) > 1 else []
    return [s.value for s in found if s and s.value is not None]


def forests(suite: Suite) -> list[Chart]:
    """A panel for each part and metric that is some model's headline."""
    panels: dict[tuple[str, str], list[tuple[Model, Score]]] = {}
    for model in suite.models:
        if model.headline and model.headline.value is not None:
            panels.setdefault((model.headline.part, model.headline.metric), []).append((model, model.headline))
    charts = []
    for rows in panels.values():
        for start in range(0, len(rows), MOST_ROWS):
            some = rows[start : start + MOST_ROWS]
            first = some[0][1]
            said = "; ".join(f"{s.model} {score_text(s)}, trivial {s.trivial}, simple {s.simple}" for _, s in some)
            svg = forest([s for _, s in some], {m.name: _single(m, s) for m, s in some}, f"{first.label} by model, {arrow(first)}: {said}")
            charts.append(Chart(first.label, arrow(first), svg))
    return charts


def loss_curves(suite: Suite) -> list[Chart]:
    shown = [m for m in suite.models if any(r.history for r in m.runs)]
    charts = []
    for model in shown[:MOST_PANELS]:
        kept = ", ".join(f"{r.name} epoch {r.history.best}" for r in model.runs[:12] if r.history and r.history.best is not None)
        charts.append(
            Chart(
                model.name,
                "",
                curves(
                    model.name, list(model.runs), f"loss by epoch of {model.name}, training and validation; kept: {kept or 'not known'}"
                ),
            )
        )
    return charts


def part_bars(suite: Suite) -> list[Chart]:
    """Metrics that two or more parts share, all models on one axis."""
    charts = []
    shown: dict[str, list[Score]] = {}
    for model in suite.models:
        if not model.headline:
            continue
        own = model.parts(model.headline.split)
        for metric in dict.fromkeys(s.metric for s in own):
            same = [s for s in own if s.metric == metric]
            if len({s.part for s in same}) > 1 and (metric == model.headline.metric or metric in ("accuracy", "rmse", "nll", "share")):
                shown.setdefault(metric, []).extend(same)
    for metric, scores in shown.items():
        said = "; ".join(f"{s.model} {s.part} {score_text(s)}" for s in scores[:60])
        svg = by_part(scores, f"{scores[0].called} by part: {said}")
        note = "share of the trivial baseline's error; shorter is better" if metric in IN_UNITS else arrow(scores[0])
        if svg:
            charts.append(Chart(f"{scores[0].called} by part", note, svg))
    return charts


def fold_charts(suite: Suite) -> list[Chart]:
    charts = []
    for model in suite.models:
        h = model.headline
        if not h or len(model.runs) < 2 or h.value is None:
            continue
        scores, labels = [], []
        for run in model.runs:
            own = own_score(run, h)
            scores.append(own or Score(run.suite, model.name, run.name, h.part, h.split, h.metric, None, direction=h.direction))
            labels.append(run.name.removeprefix(model.name).lstrip("-") or run.name)
        known = [s for s in scores if s.value is not None]
        ahead = sum(s.ahead for s in known)
        against = (
            f"{ahead} of {len(known)} ahead of the simple baseline" if any(s.simple is not None for s in known) else f"{len(known)} runs"
        )
        said = "; ".join(f"{label} {score_text(s)}" for label, s in zip(labels, scores))
        charts.append(
            Chart(
                f"{model.name}: {h.label}", f"{arrow(h)}; {against}", folds(scores, labels, h, f"{h.label} of {model.name} by run: {said}")
            )
        )
    return charts


def attention_charts(suite: Suite) -> list[Chart]:
    charts = []
    for a in suite.attention[:MOST_PANELS]:
        right = "right" if a.true == a.told else f"taken for {a.told}"
        said = f"attention of {a.run} on {a.sample}, a {a.true}, {right}: by time step " + ", ".join(
            f"{100 * share:.0f} %" for share in a.received.reshape(a.grid[0], -1).sum(1)
        )
        charts.append(Chart(f"{a.run}: {a.true}", f"{a.sample}; {right}", attention(a, said)))
    return charts


def class_charts(suite: Suite) -> list[Chart]:
    charts = []
    for t in suite.tallies:
        n, hits = sum(map(sum, t.counts)), sum(row[i] for i, row in enumerate(t.counts))
        said = f"{t.model} {t.part}: {hits} of {n} right; " + "; ".join(
            f"{c}: {row[i]} of {sum(row)}" for i, (c, row) in enumerate(zip(t.classes, t.counts))
        )
        note = f"{hits:,} of {n:,} right" + (f", {t.runs} runs pooled" if t.runs > 1 else "")
        charts.append(
            Chart(
                f"{t.model}: {t.part}",
                note,
                confusion(t, f"confusion matrix of {said}"),
                reliability(t, f"reliability of {t.model} {t.part}: how often it was right against how sure it was"),
            )
        )
    return charts
