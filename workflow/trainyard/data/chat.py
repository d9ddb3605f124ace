"""Chat rows: a prompt and the answer a model shall learn, from JSONL of any field names."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from trainyard.data.conversation import as_text, is_conversation, last_answer, turns_of
from trainyard.data.refused import Refused
from trainyard.data.rules import look_up

MISSING = object()
BOM = "\ufeff"
FIELDS = ("prompt", "prompt_pattern", "context", "answer", "answer_pattern", "messages")


class ChatReader:
    """Reads one JSONL line into prompt and answer.

    `context["fields"]` says where they are: `prompt` and `answer` name fields (dotted for nested ones); with
    `prompt_pattern` or `answer_pattern` the first group of that regular expression (`.` matches newlines too) is cut
    out of the field; `context` names a field that is put behind the prompt, after an empty line, in rows where it holds
    something (Alpaca's input, Dolly's context); `messages` names a list of {"role", "content"} (or {"from", "value"})
    whose last answer is the answer. Without `fields`, `messages` is tried first, then `prompt` and `answer`. A prompt or
    answer that is a list of messages is read as such; all else that is no text becomes compact JSON text.
    """

    def __init__(self, features: Any, root: Path, context: dict):
        self.features, self.fields = features, dict(context.get("fields") or {})
        unknown = sorted(set(self.fields) - set(FIELDS))
        if unknown:
            raise ValueError(f"fields: unknown key '{unknown[0]}'; chat rows know {', '.join(FIELDS)}")
        beside = sorted(set(self.fields) - {"messages"})
        if "messages" in self.fields and beside:
            raise ValueError(f"fields: messages holds prompts and answers: leave out {beside[0]}, or give the list of messages as prompt")
        self.patterns = {}
        for name in ("prompt", "answer"):
            pattern = self.fields.get(f"{name}_pattern")
            if pattern is not None:
                self.patterns[name] = _compile(f"fields.{name}_pattern", pattern)

    def read(self, blobs: list[bytes], sample: dict) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray | str]]:
        """Ragged texts "prompt", "answer" and "messages" (JSON of the turns before the prompt, or ""). Raises Refused."""
        row = _parse(blobs[0])
        if not isinstance(row, dict):
            raise Refused(f"a JSON object was expected, found {type(row).__name__}")
        messages = self.fields.get("messages") or ("messages" if not self.fields and isinstance(row.get("messages"), list) else None)
        if messages:
            before, prompt, answer = last_answer(turns_of(field_of(row, messages), messages), messages)
        else:
            before, prompt, answer = self._pair(row)
        length = len(prompt) + len(answer) + sum(len(turn["content"]) for turn in before)
        if length > self.features.max_chars:
            raise Refused(f"{length} characters, more than max_chars {self.features.max_chars}")
        return {}, {"prompt": prompt, "answer": answer, "messages": json.dumps(before, ensure_ascii=False) if before else ""}

    def _pair(self, row: dict) -> tuple[list[dict], str, str]:
        """The turns before the prompt, the prompt, and the answer."""
        prompt, answer = self._value(row, "prompt"), self._value(row, "answer")
        if isinstance(prompt, str) and isinstance(answer, str):
            return [], prompt + self._context(row), answer
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        turns[-1]["content"] += self._context(row)
        turns += [{"role": "assistant", "content": answer}] if isinstance(answer, str) else answer
        return last_answer(turns, self.fields.get("prompt", "prompt"))

    def _value(self, row: dict, name: str) -> str | list[dict]:
        """The text of a field, or its turns where it holds messages."""
        field = self.fields.get(name, name)
        value = row[field] if field in row else field_of(row, field)
        if name not in self.patterns and is_conversation(value):
            return turns_of(value, field)
        text = as_text(value, field)
        if name in self.patterns:
            found = self.patterns[name].search(text)
            if not found or found.group(1) is None:
                raise Refused(f"{name}_pattern finds nothing in field '{field}'")
            text = found.group(1).strip()
        if not text or text.isspace():
            raise Refused(f"the {name} (field '{field}') is empty")
        return text

    def _context(self, row: dict) -> str:
        field = self.fields.get("context")
        value = look_up(row, field, None) if field else None
        text = "" if value is None else as_text(value, str(field)).strip()
        return f"\n\n{text}" if text else ""

    def meta(self) -> dict:
        return {"format": "chat"}


def field_of(row: dict, field: str) -> Any:
    """The value of a field, dotted for nested ones. Raises Refused when it is missing."""
    value = look_up(row, field, MISSING)
    if value is MISSING:
        raise Refused(f"field '{field}' is missing; the row has {', '.join(map(str, list(row)[:8])) or 'no fields'}")
    return value


def _parse(blob: bytes) -> Any:
    try:
        return DECODER.decode(str(blob, "utf-8").removeprefix(BOM))
    except UnicodeDecodeError:
        raise Refused("not UTF-8 text") from None
    except RecursionError:
        raise Refused("not usable JSON: nested too deeply") from None
    except ValueError as error:
        raise Refused(f"not JSON: {error}") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is Python's word, not JSON's")


DECODER = json.JSONDecoder(parse_constant=_no_constant)  # made once: json.loads with arguments makes one a row


def _compile(name: str, pattern: str) -> re.Pattern:
    try:
        compiled = re.compile(pattern, re.DOTALL)
    except re.error as error:
        raise ValueError(f"{name} is not a regular expression: {error}") from None
    if compiled.groups < 1:
        raise ValueError(f"{name} needs a group in parentheses: its text is taken")
    return compiled
