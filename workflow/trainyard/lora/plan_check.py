"""Is an answer right? Valid JSON, the plan's schema, its geometry, what was asked for, and its cost, one by one.

A plan is an object with site, rooms, area, rate, cost, budget and fits, in that order; a room has name, box (x, y,
width, height in metres), area and door (the room it opens to, or "outside"). What was asked for is read from the
reference answer. Answers of other kinds are only asked to be JSON, and only where the reference answer is.
"""

import json
from typing import Any, TypeGuard

KEYS = ["site", "rooms", "area", "rate", "cost", "budget", "fits"]
ROOM_KEYS = ["name", "box", "area", "door"]
PARTS = ("valid_json", "schema", "geometry", "brief", "cost")
OUTSIDE = "outside"


def check_answer(text: str, reference: str) -> dict[str, bool]:
    """Which of the parts hold for a generated text. Empty where the reference is not JSON; valid_json alone where it is
    no plan."""
    wanted = parse(reference)
    if wanted is None:
        return {}
    found = parse(text)
    if not is_plan(wanted):
        return {"valid_json": found is not None}
    return {"valid_json": found is not None, **check_plan(found, wanted)}


def check_plan(plan: Any, wanted: Any = None) -> dict[str, bool]:
    """schema, geometry, brief and cost of a parsed plan. Without `wanted` the brief is not looked at, and the cost only
    against the plan's own rate and budget."""
    if not is_plan(plan):
        return dict.fromkeys(PARTS[1:] if wanted else ("schema", "geometry", "cost"), False)
    result = {"schema": True, "geometry": not geometry_faults(plan)}
    reference = wanted or plan
    if wanted:
        result["brief"] = plan["site"] == wanted["site"] and room_names(plan) == room_names(wanted)
    area = reference["site"][0] * reference["site"][1]
    cost = plan["rate"] == reference["rate"] and plan["cost"] == reference["rate"] * area
    result["cost"] = cost and plan["budget"] == reference["budget"] and plan["fits"] is (plan["cost"] <= plan["budget"])
    return result


def parse(text: str) -> dict | list | None:
    """A JSON object or list; None for anything else (a bare number is no answer)."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def is_plan(value: Any) -> TypeGuard[dict[str, Any]]:
    """Whether a parsed answer has a plan's keys, in order, with values of the right kind."""
    if not isinstance(value, dict) or list(value) != KEYS:
        return False
    numbers = [value[key] for key in ("area", "rate", "cost", "budget")]
    if not _whole(*numbers) or not _lengths(value["site"], 2) or not isinstance(value["fits"], bool):
        return False
    rooms = value["rooms"]
    return isinstance(rooms, list) and len(rooms) > 0 and all(_is_room(room) for room in rooms)


def _is_room(room: Any) -> bool:
    if not isinstance(room, dict) or list(room) != ROOM_KEYS:
        return False
    return isinstance(room["name"], str) and isinstance(room["door"], str) and _lengths(room["box"], 4) and _whole(room["area"])


def _lengths(value: Any, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and _whole(*value)


def _whole(*values: Any) -> bool:
    return all(type(v) is int for v in values)


def room_names(plan: dict) -> list[str]:
    return sorted(room["name"] for room in plan["rooms"])


def geometry_faults(plan: dict) -> list[str]:
    """What is wrong with the rooms of a plan, in words; empty when they fit, do not overlap, fill the site, have the
    areas they claim, and can all be reached from outside through doors in shared walls."""
    return [fault for faults in geometry_rules(plan).values() for fault in faults]


def geometry_rules(plan: dict) -> dict[str, list[str]]:
    """The rules of geometry by name, each with what breaks it."""
    (width, height), rooms = plan["site"], plan["rooms"]
    boxes = {room["name"]: room["box"] for room in rooms}
    faults: dict[str, list[str]] = {"rooms fit the site": [], "no rooms overlap": [], "areas add up": [], "every room can be reached": []}
    fit, apart, areas, reach = faults.values()
    for i, room in enumerate(rooms):
        x, y, w, h = room["box"]
        if x < 0 or y < 0 or w < 1 or h < 1 or x + w > width or y + h > height:
            fit.append(f"{room['name']} lies outside the site")
        if room["area"] != w * h:
            areas.append(f"{room['name']} is {w * h} m², not {room['area']}")
        apart += [f"{room['name']} overlaps {o['name']}" for o in rooms[:i] if min(_overlap(room["box"], o["box"])) > 0]
    total = sum(room["area"] for room in rooms)
    if not total == plan["area"] == width * height:
        areas.append(f"the rooms have {total} m² and the site {width * height}, not {plan['area']}")
    if len(boxes) < len(rooms):
        reach.append("two rooms have one name")
    reach += [f"{name} cannot be reached" for name in sorted(set(boxes) - _reachable(rooms, boxes))]
    return faults


def _reachable(rooms: list[dict], boxes: dict[str, list[int]]) -> set[str]:
    """Names of the rooms that doors connect with the outside."""
    reached, grown = {OUTSIDE}, True
    while grown:
        new = {r["name"] for r in rooms if r["door"] in reached and (r["door"] == OUTSIDE or _share_wall(r["box"], boxes[r["door"]]))}
        grown = not new <= reached
        reached |= new
    return reached - {OUTSIDE}


def _share_wall(a: list[int], b: list[int]) -> bool:
    across, along = sorted(_overlap(a, b))
    return across == 0 and along > 0


def _overlap(a: list[int], b: list[int]) -> tuple[int, int]:
    """Metres that two boxes share in x and in y; negative where they are apart."""
    x, y = (min(a[i] + a[i + 2], b[i] + b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    return x, y
