"""Conversations as chat data hold them: lists of messages by many names, to plain turns of text."""

import json
from typing import Any

from trainyard.data.refused import Refused

ROLES = {
    "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "model": "assistant",
    "system": "system", "developer": "system",
}  # fmt: skip
TEXT_PARTS = ("text", "input_text", "output_text")
OTHER_PARTS = ("image", "image_url", "input_image", "audio", "input_audio", "video", "video_url", "file", "tool_use", "tool_result")
CALLS = ("tool_calls", "function_call")


def is_conversation(value: Any) -> bool:
    """Whether a value is a list of messages, not data that happen to be a list."""
    return isinstance(value, list) and bool(value) and all(isinstance(turn, dict) and _is_message(turn) for turn in value)


def _is_message(turn: dict) -> bool:
    return str(turn.get("role", turn.get("from"))).lower() in ROLES and any(key in turn for key in ("content", "value", *CALLS))


def turns_of(value: Any, field: str) -> list[dict[str, str]]:
    """Turns {"role", "content"} of a list of {"role", "content"} or {"from", "value"}; a content of text parts is one text.

    Raises Refused for other roles, parts that are no text, and calls of tools: what they say would be lost.
    """
    if not isinstance(value, list):
        raise Refused(f"field '{field}' is not a list of messages")
    turns = []
    for turn in value:
        if not isinstance(turn, dict):
            raise Refused(f"field '{field}' holds a message that is not an object")
        role = turn.get("role", turn.get("from"))
        known = ROLES.get(str(role).lower())
        if known is None:
            raise Refused(f"field '{field}' holds a message with the role {role!r}; those of users, assistants and the system are read")
        call = next((key for key in CALLS if turn.get(key)), None)
        if call is not None:
            raise Refused(f"field '{field}' holds a call of a tool ({call}), which is not read: write it into the message's content")
        turns.append({"role": known, "content": _content(turn.get("content", turn.get("value")), field)})
    return turns


def last_answer(turns: list[dict[str, str]], field: str) -> tuple[list[dict[str, str]], str, str]:
    """The turns before the last question, that question, and its answer. Raises Refused where there is none."""
    while turns and turns[-1]["role"] != "assistant":
        turns.pop()
    if len(turns) < 2 or turns[-2]["role"] != "user" or not turns[-1]["content"].strip() or not turns[-2]["content"].strip():
        raise Refused(f"field '{field}' holds no answer of an assistant to a user")
    return turns[:-2], turns[-2]["content"], turns[-1]["content"]


def _content(value: Any, field: str) -> str:
    if isinstance(value, list) and value and all(_is_part(part) for part in value):
        other = next((part["type"] for part in value if part["type"] not in TEXT_PARTS), None)
        if other is not None:
            raise Refused(f"field '{field}' holds a message with a part of type '{other}'; only text is learned")
        return "".join(as_text(part.get("text"), field) for part in value)
    return as_text(value, field)


def _is_part(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in (*TEXT_PARTS, *OTHER_PARTS)


def as_text(value: Any, field: str) -> str:
    """A field's value as text: strings as they are, all else as compact JSON. Raises Refused for null and what is no text."""
    if value is None:
        raise Refused(f"field '{field}' is not text but null")
    if not isinstance(value, str):
        try:
            value = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        except ValueError:
            raise Refused(f"field '{field}' holds a number too large for JSON's readers") from None
    if "\0" in value:
        raise Refused(f"field '{field}' holds a NUL character")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise Refused(f"field '{field}' holds half of a surrogate pair, which is not text") from None
    return value
