"""Snakemake's reason for running a job, made readable: `lr: 0.001 → 0.002` instead of two settings of 900 characters."""

import ast
import json
import re
from functools import lru_cache
from typing import Any

PARAMS = "Params have changed since last execution: "
SOFTWARE = "Software environment definition has changed since last execution"
UNION = "Union of exclusive params before and now across all output: before: "
NOTHING = "<nothing exclusive>"
STARTS = (
    "Missing output|Incomplete output|Updated input|Input files updated|Set of input|Code has|Params have|"
    "Software env|Forced|Rules with|Output file|Job prov"
)
FINGERPRINT = re.compile(r"[0-9a-f]{8,}")


def readable_reason(why: str) -> str:
    """One line. The cause comes before its consequences: what only follows from another job is left out where there is a cause."""
    parts = _parts(why)
    causes = [text for text, follows in parts if not follows]
    return "; ".join(causes or [text for text, _ in parts])


def follows_only(why: str) -> bool:
    """Whether a job runs only because others do."""
    parts = _parts(why)
    return bool(parts) and all(follows for _, follows in parts)


@lru_cache(maxsize=1 << 15)  # a dry run asks several times for each of its jobs
def _parts(why: str) -> tuple[tuple[str, bool], ...]:
    return tuple(part for part in map(_part, split_reason(why)) if part)


def split_reason(why: str) -> list[str]:
    """Snakemake's reasons, one each; it joins them by `; `. Settings may hold anything, so what follows them is cut off from the end."""
    before, params, after = why.partition(PARAMS)
    parts = re.split(rf"; (?={STARTS})", before.strip("; "))
    if params:
        software = f"; {SOFTWARE}"
        parts += [params + after.removesuffix(software), SOFTWARE if after.endswith(software) else ""]
    return [part.strip() for part in parts if part.strip()]


def _part(text: str) -> tuple[str, bool] | None:
    """A single reason in our words, and whether it only follows from another job."""
    head, _, rest = text.partition(": ")
    if text.startswith(PARAMS):
        return params_change(text.removeprefix(PARAMS)), False
    if head == "Missing output files":
        return f"missing {_files(rest)}", False
    if head == "Incomplete output files":
        return f"unfinished {_files(rest)}", False
    if head == "Updated input files":
        return f"input updated: {_files(rest)}", False
    if head == "Input files updated by another job":
        return f"input made anew: {_files(rest)}", True
    if text.startswith("Set of input files has changed"):
        return "other input files than last time", False
    if text.startswith("Code has changed"):
        return "the rule's command changed", False
    if text.startswith("Software environment"):
        return "its software environment changed", False
    if text.startswith("Forced execution"):
        return "forced", False
    return text, False


def _files(text: str) -> str:
    names = sorted({re.sub(r" \(.*\)$", "", part).rstrip("/").rpartition("/")[2] for part in text.split(", ") if part})
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:2])} and {len(names) - 2} more"


def setting_changes(why: str) -> list[tuple[str, str, str]]:
    """(name, before, after) of every setting that differs in Snakemake's reason; empty where params did not change."""
    for part in split_reason(why):
        if part.startswith(PARAMS):
            sides = _sides(part.removeprefix(PARAMS))
            return _changes(*sides) if sides else []
    return []


def params_change(text: str) -> str:
    """`lr: 0.001 → 0.002, options.width: 64 → 96`; what cannot be read so is said to have changed."""
    sides = _sides(text)
    if sides is None:
        return "settings changed"
    shown = []
    for name, before, after in _changes(*sides):
        if name == "code" or (not name and FINGERPRINT.fullmatch(before) and FINGERPRINT.fullmatch(after)):
            shown.append("code changed" if name == "code" else "its code or data changed")
        elif FINGERPRINT.fullmatch(before) or FINGERPRINT.fullmatch(after):
            shown.append(f"{name} changed")
        else:
            shown.append(f"{name}: {before} → {after}" if name else f"{before} → {after}")
    shown = list(dict.fromkeys(shown))
    if not shown:
        return "settings changed"
    return ", ".join(shown if len(shown) <= 4 else [*shown[:3], f"and {len(shown) - 3} more settings"])


def _sides(text: str) -> tuple[list[Any], list[Any]] | None:
    """Values before and now: Snakemake joins Python literals by commas, so they read as lists."""
    text = text.strip()
    if not text.startswith(UNION):
        return None
    text = text.removeprefix(UNION)
    for match in re.finditer(r" now: ", text):
        before, after = _literals(text[: match.start()]), _literals(text[match.end() :])
        if before is not None and after is not None:
            return before, after
    return None


def _literals(text: str) -> list[Any] | None:
    text = text.strip()
    if text == NOTHING:
        return []
    try:
        return [_decoded(value) for value in ast.literal_eval(f"[{text}]")]
    except (ValueError, SyntaxError):
        return None


def _decoded(value: Any) -> Any:
    """JSON text as what it says; `code=ab12` as {"code": "ab12"}."""
    if isinstance(value, str):
        try:
            inner = json.loads(value)
        except ValueError:
            pair = re.fullmatch(r"([A-Za-z_][\w.]*)\s*[=:]\s*(.*)", value)
            return {pair[1]: pair[2]} if pair else value
        return inner if isinstance(inner, dict) else value
    return value


def _changes(before: list[Any], after: list[Any]) -> list[tuple[str, str, str]]:
    """Dictionaries are compared key by key with the one they share most keys with; plain values in their order."""
    changes: list[tuple[str, str, str]] = []
    news = [v for v in after if isinstance(v, dict)]
    for old in [v for v in before if isinstance(v, dict)]:
        alike = max(news, key=lambda new: len(set(new) & set(old)), default=None)
        if alike is not None and set(alike) & set(old):
            news.remove(alike)
        else:
            alike = {}
        changes += _differences(old, alike)
    for new in news:
        changes += _differences({}, new)
    told = {(b, a) for _, b, a in changes}
    plain_before = [_show(v) for v in before if not isinstance(v, dict)]
    plain_after = [_show(v) for v in after if not isinstance(v, dict)]
    if len(plain_before) == len(plain_after):
        # Snakemake hands over sets: where several changed, only what the settings already told can be paired for sure.
        rest_before = [v for v in plain_before if v not in {b for b, _ in told}]
        rest_after = [v for v in plain_after if v not in {a for _, a in told}]
        if len(rest_before) == len(rest_after) == 1 or rest_before and all(FINGERPRINT.fullmatch(v) for v in rest_before + rest_after):
            changes.append(("", rest_before[0], rest_after[0]))
    elif not changes:
        changes += [("", v, "nothing") for v in plain_before] + [("", "nothing", v) for v in plain_after]
    return sorted(dict.fromkeys(changes), key=lambda c: (c[0] == "", c[0]))


def _differences(before: dict, after: dict, stem: str = "") -> list[tuple[str, str, str]]:
    out = []
    for key in sorted(set(before) | set(after), key=str):
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            out += _differences(old, new, f"{stem}{key}.")
        elif old != new:
            out.append((f"{stem}{key}", _show(old, key in before), _show(new, key in after)))
    return out


def _show(value: Any, given: bool = True) -> str:
    if not given:
        return "nothing"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)
    return text if len(text) <= 40 else text[:39] + "…"
