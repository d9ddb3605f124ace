"""What is right and wrong with one answer, for people: every rule by name, "yes", or "no" and why."""

import json
from typing import Any

from trainyard.lora.plan_check import KEYS, ROOM_KEYS, check_plan, geometry_rules, is_plan, parse, room_names

MOST = 3


def explain_answer(text: str, reference: str) -> dict[str, str]:
    """As check_answer, with the geometry's rules one by one. Empty where the reference is not JSON."""
    wanted = parse(reference)
    if wanted is None:
        return {}
    found = parse(text)
    if found is None:
        return {"valid JSON": _no([_not_json(text)])}
    if not is_plan(wanted):
        return {"valid JSON": "yes"}
    if not is_plan(found):
        return {"valid JSON": "yes", "schema": _no([_not_a_plan(found)])}
    rules: dict[str, list[str]] = {"valid JSON": [], "schema": [], **geometry_rules(found), "what was asked for": _brief(found, wanted)}
    words = {name: _no(faults) for name, faults in rules.items()}
    right = check_plan(found, wanted)["cost"]
    return {**words, "cost": "yes" if right else _no(_cost(found, wanted))}


def explain_unasked(text: str) -> dict[str, str]:
    """The same of an answer that nobody knows the right one of: its own rate and budget are taken for granted."""
    found = parse(text)
    words = explain_answer(text, json.dumps(found if found is not None else {}))
    words.pop("what was asked for", None)
    names = {"cost": "cost follows from its rate and budget"}
    return {names.get(name, name): said for name, said in words.items()}


def _no(faults: list[str]) -> str:
    more = f" and {len(faults) - MOST} more" if len(faults) > MOST else ""
    return f"no: {', '.join(faults[:MOST])}{more}" if faults else "yes"


def _not_json(text: str) -> str:
    try:
        json.loads(text)
    except RecursionError:
        return "nested too deeply"
    except ValueError as error:
        return str(error)
    return "neither an object nor a list"


def _not_a_plan(found: Any) -> str:
    if not isinstance(found, dict) or list(found) != KEYS:
        keys = ", ".join(map(str, found)) if isinstance(found, dict) else "a list"
        return f"a plan has {', '.join(KEYS)}, in that order, not {keys[:120]}"
    return f"a value is of the wrong kind: lengths and money are whole numbers, a room has {', '.join(ROOM_KEYS)}"


def _brief(found: dict, wanted: dict) -> list[str]:
    faults = []
    if found["site"] != wanted["site"]:
        faults.append("{} × {} m, asked were {} × {}".format(*found["site"], *wanted["site"]))
    ours, theirs = room_names(found), room_names(wanted)
    missing, extra = [n for n in theirs if n not in ours], [n for n in ours if n not in theirs]
    faults += [f"{name} is missing" for name in missing] + [f"{name} was not asked for" for name in extra]
    return faults or (["a room is there twice"] if ours != theirs else [])


def _cost(found: dict, wanted: dict) -> list[str]:
    area = wanted["site"][0] * wanted["site"][1]
    faults = [
        f"{name} {found[name]}, not {right}"
        for name, right in (("rate", wanted["rate"]), ("cost", wanted["rate"] * area), ("budget", wanted["budget"]))
        if found[name] != right
    ]
    if found["fits"] is not (found["cost"] <= found["budget"]):
        faults.append(f"a cost of {found['cost']} {'is' if found['cost'] <= found['budget'] else 'is not'} within {found['budget']}")
    return faults
