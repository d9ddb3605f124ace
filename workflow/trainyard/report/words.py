"""What the figures say, in sentences: the verdict on top, warnings, and a note a model."""

from collections import Counter

from trainyard.report.intervals import FEW_GROUPS
from trainyard.report.numbers import difference_text, duration, num, percent, plural, score_text
from trainyard.report.views.data import Dataset
from trainyard.report.views.runs import Difference, Model, Score
from trainyard.report.views.whole import Report

SYMBOL = {"better": "▲", "worse": "▼", "unclear": "≈", "unknown": "·"}
STATE = {"done": "✓", "failed": "✕", "running": "…", "missing": "?", "interrupted": "‖", "skipped": "–"}


def against(score: Score | None, level: str) -> str:
    """better, unclear, worse or unknown against the `trivial` or `simple` baseline."""
    difference: Difference | None = getattr(score, f"vs_{level}") if score else None
    return difference.verdict if difference else "unknown"


def verdict(report: Report) -> str:
    """The whole workflow in a sentence or two: what ran, what failed, what beat its baselines and how sure that is."""
    runs, models = Counter(r.state for r in report.runs), [m for m in report.models if m.headline]
    total = sum(runs.values())
    if not total:
        return "No run has been made yet."
    parts = [f"{runs['done']} of {plural(total, 'run')} finished"]
    parts += [
        f"{runs[s]} {w}"
        for s, w in (("failed", "failed"), ("interrupted", "interrupted"), ("running", "still running"), ("missing", "missing"))
        if runs[s]
    ]
    sentence = ", ".join(parts) + "."
    if runs["done"] == total:
        sentence = f"All {plural(total, 'run')} finished." if total > 1 else "The one run finished."
    if not models:
        return sentence + " No model has a figure yet."
    trivial, simple = (Counter(against(m.headline, level) for m in models) for level in ("trivial", "simple"))
    beat = "beats its" if trivial["better"] == 1 else "beat their"
    sentence += f" Of {plural(len(models), 'model')} with figures, {trivial['better']} surely {beat} trivial baseline"
    sentence += f" and {simple['better']} also the simple one (95\u00a0% intervals)"
    rest = [
        f"{simple[k]} {w}"
        for k, w in (
            ("unclear", "cannot be told apart from it"),
            ("worse", "surely worse than it"),
            ("unknown", "without a simple baseline to compare"),
        )
        if simple[k]
    ]
    return sentence + ("; " + ", ".join(rest) if rest else "") + "."


def warnings(report: Report) -> list[str]:
    """What a reader should know before trusting a figure; the gravest first."""
    found = []
    for m in report.models:
        bad = [r for r in m.runs if r.state in ("failed", "interrupted")]
        if bad:
            which = bad[0].name if len(bad) == 1 else f"{len(bad)} of {len(m.runs)} runs of {m.name}"
            found.append(f"{m.suite}: {which} {bad[0].state}" + (f": {bad[0].reason}" if bad[0].reason else ""))
    found += [
        f"{j.suite or 'workflow'}: {j.rule} failed" + (f" for {j.run}" if j.run else "") + (f": {j.reason}" if j.reason else "")
        for j in report.other_failures
    ]
    for s in report.suites:
        found += [f"{s.name}: preflight of {p.model} says fail" for p in s.preflights if p.verdict == "fail"]
        found += [f"{s.name}: no merge of {m.model} was accepted" for m in s.merges if m.decided and not m.accepted]
    for m in report.models:
        if m.headline and against(m.headline, "trivial") in ("worse", "unclear"):
            found.append(f"{m.suite}: {m.name} is not shown to be better than its trivial baseline ({m.headline.trivial_name})")
    sets = [(s.name, d) for s in report.suites for d in s.datasets]
    found += [
        f"{s}: groups of {d.name} are unknown: training and test may share a source, so its figures may be too good (leak)"
        for s, d in sets
        if d.groups_known is False
    ]
    for s in report.suites:
        behind = [
            x
            for m in s.models
            if m.headline
            for x in m.parts(m.headline.split)
            if x.part != m.headline.part and against(x, "simple") == "worse"
        ]
        if behind:
            parts = ", ".join(dict.fromkeys(f"{x.part} ({x.simple_name})" for x in behind))
            found.append(f"{s.name}: in {plural(len(behind), 'figure')} beside the headline the simple baseline is surely better: {parts}")
    found += [f"{s}: {d.name}: {n}" for s, d in sets for n in d.notes if not n.startswith("groups unknown") and "quarantine.csv" not in n]
    found += [f"{s}: {plural(d.lost, 'sample')} of {d.name} refused" for s, d in sets if d.lost]
    return found + [f"could not be read: {p}" for p in report.problems]


def model_notes(model: Model) -> list[tuple[str, str]]:
    """(verdict, sentence) about a model's headline figure, its other parts and its training."""
    notes, h = [], model.headline
    if h:
        notes += [(against(h, level), _comparison(h, level)) for level in ("simple", "trivial")]
        notes += _other_parts(model, h)
        if h.groups is not None and h.groups < FEW_GROUPS:
            notes.append(("unclear", f"Only {plural(h.groups, 'group')} held out: the interval rests on few independent cases."))
    done, states = [r for r in model.runs if r.state == "done"], model.states
    for state in ("failed", "interrupted", "missing"):
        if states[state]:
            first = next(r for r in model.runs if r.state == state)
            who = state.capitalize() if len(model.runs) == 1 else f"{states[state]} of {len(model.runs)} runs {state}"
            notes.append(("unknown" if state == "missing" else "worse", who + (f": {first.reason}" if first.reason else "") + "."))
    said = dict.fromkeys(n for r in done for n in r.notes if "groups: the intervals" not in n)
    notes += [("unclear", n[:1].upper() + n[1:].removesuffix(".") + ".") for n in said]
    falling = [r for r in done if r.epochs and r.epochs > 1 and r.best_epoch == r.epochs]
    if falling:
        whose = "Its" if len(model.runs) == 1 else f"In {len(falling)} of {len(done)} runs the"
        notes.append(("unknown", f"{whose} validation loss was lowest at the last epoch: more epochs may help."))
    retried = [r.attempts for r in model.runs if r.attempts and r.attempts > 1]
    if retried:
        notes.append(
            (
                "unknown",
                f"Took {max(retried)} attempts."
                if len(model.runs) == 1
                else f"{plural(len(retried), 'run')} took up to {max(retried)} attempts.",
            )
        )
    return notes


def _other_parts(model: Model, h: Score) -> list[tuple[str, str]]:
    """Parts beside the headline's, in their first metric, that do not surely beat the simple baseline."""
    firsts: dict[str, Score] = {}
    for s in model.parts(h.split):
        if s.part not in firsts or s.metric == h.metric and firsts[s.part].metric != h.metric:
            firsts[s.part] = s
    others = [s for part, s in firsts.items() if part != h.part and against(s, "simple") != "unknown"]
    behind = [s for s in others if against(s, "simple") != "better"]
    notes = [(against(s, "simple"), _comparison(s, "simple")) for s in behind[:6]]
    if others and len(behind) < len(others):
        ahead = [s.part for s in others if s not in behind]
        notes.append(("better", f"Also better than the simple baseline in {', '.join(ahead[:8])}{' …' if len(ahead) > 8 else ''}."))
    return notes


def _comparison(score: Score, level: str) -> str:
    difference: Difference | None = getattr(score, f"vs_{level}")
    name, value = getattr(score, f"{level}_name") or f"the {level} baseline", getattr(score, level)
    if value is None or difference is None or difference.value is None:
        return f"No {level} baseline was compared."
    how = {"better": "better than", "worse": "worse than", "unclear": "not shown to be better than", "unknown": "beside"}[
        difference.verdict
    ]
    sure = f"; {percent(difference.p_better)} sure of being better" if difference.p_better is not None else ""
    return f"{score.label} {num(score.value)} is {how} {name} ({num(value)}): difference {difference_text(difference)}{sure}."


def gathered(model: Model) -> str:
    """`5 folds: mean 0.790, spread 0.031`, empty for a single run."""
    h, kinds = model.headline, [k for k in ("fold", "shard", "seed") if any(f"-{k}" in r.name for r in model.runs)]
    if len(model.runs) < 2 or not h:
        return ""
    what = plural(len(model.runs), " × ".join(kinds) or "run")
    what = f"{h.runs} of {what}" if h.runs < len(model.runs) else what
    return (
        f"{what}: mean {score_text(h)}"
        + (f", spread {num(h.spread)} (sd)" if h.spread is not None and h.low is not None else "")
        + (f"; interval from {h.basis}" if h.basis else "")
    )


def dataset_note(d: Dataset) -> str:
    if d.groups_known is False:
        return "groups unknown: may leak"
    if d.groups:
        return "known, none in two splits"
    return "known" if d.groups_known else ""


def bound(report: Report) -> str:
    """Wall clock against the two bounds no schedule can beat: the longest job, and all work over the width that ran."""
    timed = [j for j in report.jobs if j.timed]
    if len(timed) < 2:
        return ""
    work, wall = sum(j.end - j.start for j in timed), max(j.end for j in timed)
    longest = max(timed, key=lambda j: j.end - j.start)
    # Starts are whole seconds, so jobs one after the other may seem to overlap by less than one.
    edges = sorted([(j.start, 1) for j in timed] + [(max(j.start, j.end - 1), -1) for j in timed])
    width = most = 0
    for _, step in edges:
        width += step
        most = max(most, width)
    least = max(longest.end - longest.start, work / max(most, 1))
    said = f"{plural(len(timed), 'job')}, {duration(work)} of work in {duration(wall)}"
    if wall > 0:
        said += f": {num(work / wall, 2)} × as fast as one after the other"
    if most > 1 and least <= wall:
        said += f". At most {most} ran at once; with that width no order could end before {duration(least)}"
    return f"{said}. The longest job: {longest.rule} {longest.run or longest.suite} ({duration(longest.end - longest.start)})."
