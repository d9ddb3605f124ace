"""Wildcard constraints for many names.

Snakemake writes a constraint into every pattern with the wildcard and searches these texts for every file: with thousands of names
told one by one, a dry run would spend most of its time there. So what names share is written once.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable


def one_of(names: Iterable[str]) -> str:
    """A regular expression that fits exactly these names; something that never fits when there are none."""
    known: dict[frozenset[str], str] = {}
    return _any(frozenset(names), known) if (names := set(names)) else "(?!)"


def _any(texts: frozenset[str], known: dict[frozenset[str], str]) -> str:
    """Exactly these texts: what they begin with, then their next characters, those that go on alike together."""
    if texts not in known:
        start = os.path.commonprefix(sorted(texts))
        rests = {text[len(start) :] for text in texts}
        known[texts] = re.escape(start) + _next({r for r in rests if r}, "" in rests, known)
    return known[texts]


def _next(rests: set[str], may_end: bool, known: dict[frozenset[str], str]) -> str:
    if not rests:
        return ""
    by_first: defaultdict[str, set[str]] = defaultdict(set)
    for rest in rests:
        by_first[rest[0]].add(rest[1:])
    alike: defaultdict[frozenset[str], list[str]] = defaultdict(list)
    for first, after in sorted(by_first.items()):
        alike[frozenset(after)].append(first)
    ways = [_characters(firsts) + _any(after, known) for after, firsts in alike.items()]
    if len(ways) == 1 and not may_end:
        return ways[0]
    return f"(?:{'|'.join(ways)}){'?' if may_end else ''}"


def _characters(characters: list[str]) -> str:
    return re.escape(characters[0]) if len(characters) == 1 else f"[{''.join(map(re.escape, characters))}]"
