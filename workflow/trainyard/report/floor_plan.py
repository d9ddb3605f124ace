"""A floor plan as an inline SVG: rooms with names and areas, doors as gaps in the walls."""

from html import escape
from typing import Any

from trainyard.lora.plan_check import OUTSIDE, is_plan

METRE = 40
DOOR = 0.8
FILLS = {
    "hall": "#f3efe6", "living": "#e3eef7", "kitchen": "#fbeed9", "bath": "#dff1ee", "study": "#ece6f5", "store": "#eeeeee",
}  # fmt: skip
BED = "#f9e4e4"
MOST = 200


def floor_plan_svg(plan: dict[str, Any]) -> str:
    """The drawing of a plan as one `<svg>` element with a text alternative. Raises ValueError for what is no plan."""
    if not is_plan(plan):
        raise ValueError("not a plan: it lacks keys, or their values are of another kind")
    width, height = plan["site"]
    if not (0 < width <= MOST and 0 < height <= MOST and len(plan["rooms"]) <= MOST):
        raise ValueError(f"a site of {width} × {height} m with {len(plan['rooms'])} rooms is not drawn")
    title = f"Floor plan of {width} × {height} m: " + ", ".join(f"{r['name']} {r['area']} m²" for r in plan["rooms"])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-10 -10 {width * METRE + 20} {height * METRE + 20}" role="img" '
        f'class="floor-plan" style="max-width:{width * METRE + 20}px;width:100%" font-family="sans-serif" text-anchor="middle">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width * METRE}" height="{height * METRE}" fill="#fff" stroke="#888" stroke-dasharray="4 4"/>',
    ]
    boxes = {room["name"]: room["box"] for room in plan["rooms"]}
    parts += [_room(room) for room in plan["rooms"]]
    parts += [_door(room, boxes, plan["site"]) for room in plan["rooms"]]
    return "".join(parts) + "</svg>"


def plan_facts(plan: dict[str, Any]) -> list[tuple[str, str]]:
    """Site, area, cost and budget in words; of what is no plan, those of its values that are there."""
    if not is_plan(plan):
        return [(key, str(plan[key])[:40]) for key in ("site", "area", "rate", "cost", "budget", "fits") if key in plan]
    (width, height), left = plan["site"], plan["budget"] - plan["cost"]
    return [
        ("site", f"{width} × {height} m"),
        ("area", f"{plan['area']:,} m²"),
        ("cost", f"{plan['cost']:,} at {plan['rate']:,} a m²"),
        ("budget", f"{plan['budget']:,}: {f'{left:,} to spare' if left >= 0 else f'{-left:,} too little'}"),
    ]


def _room(room: dict[str, Any]) -> str:
    x, y, w, h = (max(-MOST, min(MOST, v)) * METRE for v in room["box"])
    if w <= 0 or h <= 0:
        return ""
    name, area = escape(room["name"][:40]), f"{room['area']} m²"
    fill = FILLS.get(room["name"], BED)
    size = max(7.0, min(13.0, max(w, h) / max(len(room["name"]), len(area), 4) * 1.4, min(w, h) * 0.36))
    turn = f' transform="rotate(-90 {x + w / 2:g} {y + h / 2:g})"' if h > 2 * w else ""
    # A narrow room has its name and area on one line.
    lines = [f"{name} {area}"] if min(w, h) < 2 * METRE and max(w, h) >= 3 * METRE else [name, area]
    text = ""
    for i, line in enumerate(lines):
        base = y + h / 2 + (i - (len(lines) - 1) / 2) * size * 1.2 + size * 0.35
        text += f'<text x="{x + w / 2:g}" y="{base:g}" font-size="{size:g}"{turn} fill="#222">{line}</text>'
    return f'<rect x="{x}" y="{y}" width="{w}" height="{h}" fill="{fill}" stroke="#333" stroke-width="3"/>{text}'


def _door(room: dict[str, Any], boxes: dict[str, list[int]], site: list[int]) -> str:
    """A gap in the middle of the wall that a room shares with the one its door names, or with the outside."""
    x, y, w, h = room["box"]
    if room["door"] == OUTSIDE:
        wall = _outer_wall(x, y, w, h, site)
    else:
        other = boxes.get(room["door"])
        wall = _shared_wall(room["box"], other) if other else None
    if wall is None:
        return ""
    (x1, y1), (x2, y2) = wall
    length = abs(x2 - x1) + abs(y2 - y1)
    half = min(DOOR, length * 0.8) / length / 2
    a, b = 0.5 - half, 0.5 + half
    (ax, bx), (ay, by) = _between(x1, x2, a, b), _between(y1, y2, a, b)
    return f'<line x1="{ax:g}" y1="{ay:g}" x2="{bx:g}" y2="{by:g}" stroke="#fff" stroke-width="5" class="door"/>'


def _between(start: int, end: int, *shares: float) -> list[float]:
    return [(start + (end - start) * share) * METRE for share in shares]


def _outer_wall(x: int, y: int, w: int, h: int, site: list[int]) -> tuple[tuple[int, int], tuple[int, int]] | None:
    if x == 0:
        return (0, y), (0, y + h)
    if y == 0:
        return (x, 0), (x + w, 0)
    if x + w == site[0]:
        return (x + w, y), (x + w, y + h)
    if y + h == site[1]:
        return (x, y + h), (x + w, y + h)
    return None


def _shared_wall(a: list[int], b: list[int]) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """The line on which two boxes touch, or None."""
    low = [max(a[i], b[i]) for i in (0, 1)]
    high = [min(a[i] + a[i + 2], b[i] + b[i + 2]) for i in (0, 1)]
    if low[0] == high[0] and high[1] > low[1]:
        return (low[0], low[1]), (low[0], high[1])
    if low[1] == high[1] and high[0] > low[0]:
        return (low[0], low[1]), (high[0], low[1])
    return None
