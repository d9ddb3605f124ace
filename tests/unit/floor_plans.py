"""House plans as chat rows: generated and packed; and one by hand, to be changed."""

import json

from trainyard.config.features import ChatFeatures
from trainyard.data.chat import ChatReader
from trainyard.data.chat_pack import ChatPack, ChatWriter
from trainyard.data.generate.plans import generate


def plan_pack(folder, rows=120, builder="base"):
    generate(folder, 3, builder=builder, rows=rows)
    reader = ChatReader(ChatFeatures(), folder, {})
    with ChatWriter(folder / "train.jsonl") as writer:
        for i, line in enumerate((folder / "plans.jsonl").read_bytes().splitlines()):
            writer.add({}, {"id": str(i), "group": json.loads(line)["house"], **reader.read([line], {})[1]})
    return ChatPack(folder / "train.jsonl")


def plan():
    room = lambda name, box, door: {"name": name, "box": box, "area": box[2] * box[3], "door": door}  # noqa: E731
    rooms = [room("hall", [0, 0, 1, 4], "outside"), room("bed1", [1, 0, 3, 2], "hall"), room("bath", [1, 2, 3, 2], "hall")]
    return {"site": [4, 4], "rooms": rooms, "area": 16, "rate": 2, "cost": 32, "budget": 40, "fits": True}


def changed(**paths):
    found = plan()
    for path, value in paths.items():
        *place, last = path.split("__")
        at = found
        for part in place:
            at = at[int(part) if part.isdigit() else part]
        at[int(last) if last.isdigit() else last] = value
    return found
