"""Renders a Report as one HTML file: style, script and charts inside it, and a policy that lets nothing be fetched."""

import hashlib
import json
import re
from collections import Counter
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from trainyard.report import figures, numbers, words
from trainyard.report.charts.dag import dag
from trainyard.report.charts.gantt import gantt
from trainyard.report.charts.pairs import agreement_charts
from trainyard.report.charts.spark import spark
from trainyard.report.loose import inner
from trainyard.report.markup import TEMPLATES, coded, content_policy, plain_environment, soft
from trainyard.report.over_seeds import over_seeds
from trainyard.report.plan_view import plan_view
from trainyard.report.views.merges import Candidate, Merge, OverSeeds, Rival, Sample
from trainyard.report.views.runs import Difference, Run
from trainyard.report.views.whole import Report, Suite

FIGURES = {"valid_json": "valid JSON", "seconds_an_answer": "seconds an answer", "memory_gb": "memory, GB", "megabytes": "size, MB"}


def render(report: Report) -> str:
    """The page's text. All values are escaped by the templates; only the charts and our own style and script are markup."""
    style, script = (Markup((TEMPLATES / name).read_text(encoding="utf-8")) for name in ("style.css", "script.js"))
    page = _environment().get_template("page.html.j2")
    suites = [s.name for s in report.suites]
    text = page.render(
        report=report,
        style=style,
        script=script,
        policy=content_policy(style, script),
        verdict=words.verdict(report),
        warnings=words.warnings(report),
        tiles=tiles(report),
        sections=[section(s) for s in report.suites],
        gantt=gantt(report.jobs, suites, "time bars of the jobs, by rule", report.idle),
        dag=_dag(report),
        suites=suites,
        plan=plan_view(report.plan, suites),
        bound=words.bound(report),
        machines=machines(report.runs),
        jobs=Counter(j.state for j in report.jobs),
        untimed=sum(not j.timed for j in report.jobs),
    )
    return text.encode("utf-8", "backslashreplace").decode()  # names of files may hold bytes that are no text


def _environment() -> Environment:
    environment = plain_environment()
    environment.filters |= {
        "num": numbers.num,
        "score": numbers.score_text,
        "score_value": numbers.score_value,
        "score_range": numbers.score_range,
        "difference_value": numbers.difference_value,
        "difference_range": numbers.difference_range,
        "percent": numbers.percent,
        "duration": numbers.duration,
        "count": numbers.count,
        "size": numbers.size,
        "key": _key,
        "moment": numbers.clock,
        "soft": soft,
        "coded": coded,
    }
    environment.globals |= {
        "plural": numbers.plural,
        "against": words.against,
        "symbol": words.SYMBOL,
        "state_symbol": words.STATE,
        "gathered": words.gathered,
        "notes": words.model_notes,
        "dataset_note": words.dataset_note,
        "spark": difference_spark,
        "own_score": figures.own_score,
    }
    return environment


def _key(value: Any) -> str:
    """A name as an anchor: letters, digits and dashes, with a short hash where something was lost."""
    plain = "".join(c if c.isascii() and c.isalnum() or c in "-_" else "-" for c in str(value))
    return plain if plain == value else f"{plain}-{hashlib.blake2b(str(value).encode('utf-8', 'replace'), digest_size=3).hexdigest()}"


def difference_spark(difference: Difference | None) -> Markup:
    return spark(difference, f"difference {numbers.difference_text(difference)}, {difference.verdict}" if difference else "")


def _dag(report: Report) -> Markup:
    return dag(report.jobs, "the workflow's steps with their jobs") if report.jobs else Markup("")


def tiles(report: Report) -> list[tuple[str, str, str, str]]:
    """(figure, of what, more, tone) for the row under the verdict."""
    states, models = Counter(r.state for r in report.runs), [m for m in report.models if m.headline]
    ahead = {level: sum(words.against(m.headline, level) == "better" for m in models) for level in ("trivial", "simple")}
    wall = max((j.end for j in report.jobs if j.timed), default=None)
    trained = [r.seconds for r in report.runs if r.seconds is not None]
    total, refused = sum(states.values()), sum(d.lost for s in report.suites for d in s.datasets)
    samples = sum(sum(d.counts.values()) for s in report.suites for d in s.datasets)
    accepted = [m.accepted for s in report.suites for m in s.merges if m.decided]
    broken = states["failed"] + states["interrupted"]
    rest = [f"{n} {state}" for state, n in states.items() if state != "done"]
    found = [(f"{states['done']} / {total}", "runs finished", ", ".join(rest) or "none failed", "bad" if broken else "")]
    for level in ("trivial", "simple") if models else ():
        found.append((f"{ahead[level]} / {len(models)}", f"beat the {level} baseline", "95\u00a0% interval above zero", ""))
    found.append((numbers.duration(wall), "from start to end", f"{numbers.duration(sum(trained))} of training" if trained else "", ""))
    found.append((f"{samples:,}", "samples in use", f"{refused:,} refused", ""))
    if accepted:
        found.append(
            (
                f"{sum(map(bool, accepted))} / {len(accepted)}",
                "merges accepted",
                ", ".join(a for a in accepted if a) or "none",
                "" if all(accepted) else "bad",
            )
        )
    return found


def section(suite: Suite) -> dict[str, Any]:
    """What the template of a suite needs."""
    return {
        "suite": suite,
        "forests": figures.forests(suite),
        "curves": figures.loss_curves(suite),
        "parts": figures.part_bars(suite),
        "folds": figures.fold_charts(suite),
        "classes": figures.class_charts(suite),
        "attention": figures.attention_charts(suite),
        "merges": [merge_view(m) for m in suite.merges],
        "seeds": [seeds_view(o) for o in over_seeds(suite.merges)],
        "states": Counter(r.state for m in suite.models for r in m.runs),
    }


def merge_view(merge: Merge) -> dict[str, Any]:
    """The table's columns (figures that two rows share, or that a limit asks for) and the samples with their drawings."""
    seen = Counter(k for c in merge.candidates for k in c.figures)
    columns = [k for k, n in seen.items() if n > 1][:9] or list(seen)[:9]
    return {
        "merge": merge,
        "columns": columns,
        "agreement": {c.name: agreement_charts(c.measured) for c in merge.candidates if c.measured},
        "samples": [sample_view(s) for s in merge.samples[:23]],
        "rivals": [rival_view(r) for r in merge.rivals],
        "names": FIGURES,
        "best": _best(tuple(c for c in merge.candidates if c.role != "base"), columns),
    }


def seeds_view(over: OverSeeds) -> dict[str, Any]:
    """Means over seeds in words, and each seed's difference to what its merge is held against."""
    figures = []
    for key, (mean, low, high) in over.figures.items():
        places = numbers.decimals(mean, low, high)
        figures.append((key, f"{numbers.num(mean, places)} {numbers.interval(low, high, places)}"))
    rivals = []
    for rival in over.rivals:
        values = over.each[rival.name]
        rivals.append({**rival_view(rival), "each": ", ".join(numbers.signed(v, numbers.decimals(*values)) for v in values)})
    return {"over": over, "figures": figures, "rivals": rivals, "names": FIGURES}


def rival_view(rival: Rival) -> dict[str, str]:
    """A row of "is the merge better": mark and verdict are sure where the interval leaves out 0."""
    low, high = rival.low, rival.high
    places = numbers.decimals(rival.difference, low, high)
    mark, verdict = "unclear", "not surely better or worse"
    if low == high == rival.difference == 0:
        mark, verdict = "unknown", "the same"
    elif low is not None and high is not None and not low <= 0 <= high:
        mark, verdict = ("better", "surely better") if low > 0 else ("worse", "surely worse")
    figure = f"{numbers.signed(rival.difference, places)} {numbers.interval(low, high, places)}".strip()
    return {"name": rival.name, "figure": figure, "mark": mark, "verdict": verdict}


def _best(candidates: tuple[Candidate, ...], columns: list[str]) -> dict[str, float]:
    """The best figure of each column whose direction its name tells."""
    down, up = (
        ("loss", "nll", "seconds", "memory", "bytes", "megabytes", "error", "mb"),
        ("valid", "share", "accuracy", "geometry", "json", "all"),
    )
    best = {}
    for column in columns:
        values = [v for c in candidates if (v := c.figures.get(column)) is not None]
        sense = min if any(w in column.lower() for w in down) else max if any(w in column.lower() for w in up) else None
        if sense and len(set(values)) > 1:
            best[column] = sense(values)
    return best


def sample_view(sample: Sample) -> dict[str, Any]:
    """A sample with its plan drawn; a plan that cannot be drawn is shown as text alone."""
    drawing, why = None, ""
    rows: list[tuple[str, str]] = []
    if sample.plan is not None:
        try:
            from trainyard.report.floor_plan import floor_plan_svg, plan_facts

            rows = plan_facts(sample.plan)
            # The page's policy allows no style attributes; the style sheet sizes the drawing.
            drawing = Markup(re.sub(r' style="[^"]*"', "", floor_plan_svg(sample.plan), count=1))
        except Exception as error:  # a model wrote this plan: whatever is wrong with it must not cost the report
            why = f"not drawn: {error}"
    text = json.dumps(sample.plan, ensure_ascii=False) if sample.plan and not sample.answer else sample.answer
    return {"sample": sample, "drawing": drawing, "why": why, "rows": rows, "text": text[:4000]}


def machines(runs: list[Run]) -> list[dict[str, Any]]:
    """Runs grouped by the machine and the versions they were made with."""
    found: dict[str, dict[str, Any]] = {}
    known = {str(r.info.get("host")) for r in runs if r.info}
    for run in runs:
        info = run.info
        if not info and (not run.machine or run.machine in known):
            continue
        versions = inner(info, "versions")
        entry = {
            "host": str(info.get("host") or run.machine),
            "device": str(info.get("device") or ""),
            "threads": str(info.get("threads") or ""),
            "processor": str(info.get("processor") or info.get("platform") or ""),
            "cores": str(info.get("cores") or ""),
            "python": str(info.get("python") or ""),
            "versions": ", ".join(f"{k} {v}" for k, v in versions.items()),
            "commit": str(info.get("commit") or "")[:12] + (" with local changes" if info.get("dirty") else ""),
        }
        row = found.setdefault(json.dumps(entry, sort_keys=True), {**entry, "runs": 0, "memory": None})
        row["runs"] += 1
    return sorted(found.values(), key=lambda r: (-r["runs"], r["host"]))
