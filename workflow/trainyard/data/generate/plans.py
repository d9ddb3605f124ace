"""Floor plans as chat rows: a wish in words, and a plan with rooms that fit, doors, areas and cost as compact JSON.

Two builders differ in wording, order of rooms and prices, so that a model trained on one has something to learn from
the other. Keys stand in a fixed order that puts what is computed after what it is computed from; lengths are whole
metres, money is in thousands. Rows of the same site, rooms and finish are one house: they must not be split.
"""

import json
import random
from pathlib import Path

from trainyard.data.files import replacing, stable_seed

# Thousands a square metre.
RATES = {
    "base": {"basic": 2, "standard": 3, "premium": 4, "luxury": 6},
    "firm2": {"basic": 3, "standard": 4, "premium": 6},
}
PROMPTS = {
    "base": (
        "Plan a {finish} {home} of {size} m with {rooms}, budget {budget}.",
        "I need a {home} with {rooms} on {size} m, {finish}, at most {budget}.",
        "{size} m {home}, {rooms}, {finish} finish, budget {budget}.",
    ),
    "firm2": (
        "Please plan a house with {rooms} on {size} m. We have {budget} and want {finish}.",
        "We need {finish} finish, {rooms}. House of {size} m, at most {budget}.",
        "Budget {budget}: {finish} house with {rooms}, {size} m.",
    ),
}
EXTRAS = (None, None, "study", "store")


def generate(folder: Path, seed: int = 0, builder: str = "base", rows: int = 4000) -> None:
    """Write plans.jsonl with `rows` different lines of prompt, answer and house. `builder` is base or firm2."""
    if builder not in RATES:
        raise ValueError(f"builder must be one of {', '.join(RATES)}, not '{builder}'")
    rng = random.Random(stable_seed("plans", builder, seed))
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "plans.jsonl") as temporary, open(temporary, "w", encoding="utf-8") as file:
        seen: set[int] = set()
        while len(seen) < rows:
            line = json.dumps(make_row(rng, builder))
            if (key := stable_seed(line)) not in seen:
                seen.add(key)
                file.write(line + "\n")


def make_row(rng: random.Random, builder: str) -> dict[str, str]:
    """One row: prompt, answer (JSON text) and house (its group)."""
    while True:
        long, deep, beds, extra = rng.randrange(8, 13), rng.randrange(7, 11), rng.randrange(1, 5), rng.choice(EXTRAS)
        public = ["living", "kitchen", "bath"] + ([extra] if extra else [])
        if long >= 2 * max(beds, len(public)):
            break
    finish, budget = rng.choice(list(RATES[builder])), rng.randrange(3, 13) * 50
    # A town house is turned by 90 degrees: the hall runs along y.
    town = builder == "firm2" or rng.random() < 1 / 3
    site = [deep, long] if town else [long, deep]
    strips = [[f"bed{i + 1}" for i in range(beds)], public]
    rooms = _rooms(rng, long, deep, strips if builder == "base" else strips[::-1], town)
    area, rate = long * deep, RATES[builder][finish]
    cost = area * rate
    answer = {"site": site, "rooms": rooms, "area": area, "rate": rate, "cost": cost, "budget": budget, "fits": cost <= budget}
    prompt = rng.choice(PROMPTS[builder]).format(
        finish=finish,
        home="town house" if town else "house",
        size=f"{site[0]} x {site[1]}",
        rooms=f"{beds} bed" + (f" and a {extra}" if extra else ""),
        budget=budget,
    )
    house = f"{builder}-{site[0]}x{site[1]}-{beds}-{extra or 'none'}-{finish}"
    return {"prompt": prompt, "answer": json.dumps(answer, separators=(",", ":")), "house": house}


def _rooms(rng: random.Random, long: int, deep: int, strips: list[list[str]], turned: bool) -> list[dict]:
    """Two strips of rooms with a hall of 1 m between them, on `long` × `deep` metres; box is x, y, width, height."""
    near, rooms = (deep - 1) // 2, []
    for names, at, depth in ((strips[0], 0, near), (["hall"], near, 1), (strips[1], near + 1, deep - 1 - near)):
        start = 0
        for name, size in zip(names, _widths(rng, long, len(names))):
            box = [at, start, depth, size] if turned else [start, at, size, depth]
            rooms.append({"name": name, "box": box, "area": size * depth, "door": "outside" if name == "hall" else "hall"})
            start += size
    return rooms


def _widths(rng: random.Random, total: int, parts: int) -> list[int]:
    """`total` metres in `parts` random pieces of 2 m or more."""
    widths = [2] * parts
    for _ in range(total - 2 * parts):
        widths[rng.randrange(parts)] += 1
    return widths
