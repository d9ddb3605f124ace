"""Prompts and answers as token ids, the way the base model's own chat template says. Needs `tokenizers`, not torch."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

TOKENIZER_FILES = ["tokenizer*", "*.jinja", "special_tokens_map.json", "config.json", "generation_config.json"]
SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token")


class ChatTokenizer:
    """The tokenizer of a base model: a folder with tokenizer.json and tokenizer_config.json, or a name on the hub.

    With a chat template, prompt and answer are what the template makes of them; without one, the prompt, an empty
    line, the answer and the end token. `end_ids` end an answer, `pad_id` fills.
    """

    def __init__(self, base: str | os.PathLike):
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # threads are the scheduler's to give
        from tokenizers import Tokenizer

        self.base = str(base)
        folder = tokenizer_folder(base)
        if (folder / "tokenizer.json").is_file():
            self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        else:
            self.tokenizer = _converted(folder)
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        config = _json(folder / "tokenizer_config.json")
        self.special = {name: _token(config.get(name)) for name in SPECIAL if config.get(name)}
        template = config.get("chat_template")
        if isinstance(template, list):  # several named ones
            template = {entry["name"]: entry["template"] for entry in template}.get("default")
        if (folder / "chat_template.jinja").is_file():
            template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
        self.template: str | None = template
        self.end_ids = self._ends(_json(folder / "generation_config.json"), _json(folder / "config.json"))
        pad = self._id(self.special.get("pad_token"))
        self.pad_id = self.end_ids[0] if pad is None else pad

    @property
    def size(self) -> int:
        """Tokens of the vocabulary, special ones included."""
        return self.tokenizer.get_vocab_size(with_added_tokens=True)

    def prompt_ids(self, prompt: str, before: Sequence[dict] = ()) -> list[int]:
        """What the model is given before it answers."""
        if self.template is None:
            return self._plain_ids(self._plain_prompt(prompt, before))
        return self._encode(self._render([*before, {"role": "user", "content": prompt}], True))

    def pair_ids(self, prompt: str, answer: str, before: Sequence[dict] = ()) -> tuple[list[int], list[int]]:
        """Ids of the prompt, and of the answer with its end token. They are encoded apart: training sees the same
        prompt ids as answering does, whatever merges the tokenizer would make across the border."""
        if self.template is None:
            return self._plain_ids(self._plain_prompt(prompt, before)), self._answer_ids(answer, answer)
        turns = [*before, {"role": "user", "content": prompt}]
        head, whole = self._render(turns, True), self._render([*turns, {"role": "assistant", "content": answer}], False)
        # A template may put something between its generation prompt and the answer, such as an empty thought.
        rest = whole[len(head) :] if whole.startswith(head) else answer
        return self._encode(head), self._answer_ids(rest, answer)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated ids, up to the first end token."""
        ids = list(ids)
        stop = next((i for i, token in enumerate(ids) if token in self.end_ids), len(ids))
        return self.tokenizer.decode(ids[:stop], skip_special_tokens=True)

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def _answer_ids(self, rest: str, answer: str) -> list[int]:
        """Ids of `rest`, which is what the template makes of an answer. A special token that the answer quotes is text in it: as what it
        is it would end the answer there."""
        text = answer.strip()
        while end := next((end for end in map(self.tokenizer.id_to_token, self.end_ids) if end and text.endswith(end)), None):
            text = text.removesuffix(end).rstrip()  # at the end it says what it means
        before, quoted, after = rest.partition(text)
        if not quoted or not any(token in text for token in self._special_texts):
            return self._closed(self._encode(rest))
        self.tokenizer.encode_special_tokens = True
        ids = self._encode(quoted)
        self.tokenizer.encode_special_tokens = False
        return [*self._encode(before), *ids, *self._closed(self._encode(after))]

    @cached_property
    def _special_texts(self) -> list[str]:
        return [token.content for token in self.tokenizer.get_added_tokens_decoder().values() if token.special]

    def _closed(self, ids: list[int]) -> list[int]:
        """Answer ids up to their first end token, which is added where the template has none."""
        stop = next((i for i, token in enumerate(ids) if token in self.end_ids), None)
        return [*ids, self.end_ids[0]] if stop is None else ids[: stop + 1]

    def _plain_prompt(self, prompt: str, before: Sequence[dict]) -> str:
        return "".join(f"{turn['content']}\n\n" for turn in before) + prompt + "\n\n"

    def _plain_ids(self, text: str) -> list[int]:
        bos = self._id(self.special.get("bos_token"))
        return ([] if bos is None else [bos]) + self._encode(text)

    def _id(self, token: str | None) -> int | None:
        return None if token is None else self.tokenizer.token_to_id(token)

    def _ends(self, *configs: dict) -> tuple[int, ...]:
        found = [self._id(self.special.get("eos_token"))]
        for config in configs:
            eos = config.get("eos_token_id")
            found += eos if isinstance(eos, list) else [eos]
        ends = tuple(dict.fromkeys(int(i) for i in found if i is not None))
        if not ends:
            raise ValueError(f"{self.base}: its tokenizer names no end token (eos_token in tokenizer_config.json), so no answer could end")
        return ends

    def _render(self, messages: list[dict], generation: bool) -> str:
        return self._compiled.render(messages=messages, add_generation_prompt=generation, **self.special)

    @cached_property
    def _compiled(self) -> Any:
        """The template in the sandbox transformers uses, without `strftime_now`: today's date must not enter training."""
        import jinja2
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        def refuse(message: str) -> None:
            raise ValueError(f"{self.base}: its chat template refuses the conversation: {message}")

        def to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **more: Any) -> str:
            return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **more)

        env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
        env.globals["raise_exception"], env.filters["tojson"] = refuse, to_json
        text = (self.template or "").replace("{% generation %}", "").replace("{% endgeneration %}", "")
        try:
            return env.from_string(text.replace("{%- generation %}", "").replace("{%- endgeneration %}", ""))
        except jinja2.TemplateSyntaxError as error:
            raise ValueError(f"{self.base}: its chat template cannot be read: {error}") from None


@dataclass(frozen=True)
class EncodedRows:
    """Token ids of a pack's rows. ids: all rows end to end, int32; starts (n + 1,); prompt: tokens of each prompt (n,);
    of (n,): the pack's row that each is from, itself but for the earlier answers of conversations, which follow the rows."""

    ids: np.ndarray
    starts: np.ndarray
    prompt: np.ndarray
    of: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.starts)

    def at(self, row: int) -> np.ndarray:
        return self.ids[self.starts[row] : self.starts[row + 1]]


def encode_pack(tokenizer: ChatTokenizer, pack: Any, every_answer: bool = False) -> EncodedRows:
    """Every row of a chat pack as ids; with `every_answer`, also each earlier answer of its conversation, with what came
    before it as its prompt."""
    pieces, lengths, prompts, of = [], [], [], []

    def add(row: int, question: str, reply: str, before: list[dict]) -> None:
        prompt, answer = tokenizer.pair_ids(question, reply, before)
        pieces.append(np.array(prompt + answer, np.int32))
        lengths.append(len(pieces[-1]))
        prompts.append(len(prompt))
        of.append(row)

    for row in range(len(pack)):
        entry = pack.row(row)
        add(row, entry["prompt"], entry["answer"], turns_before(entry))
    for row in range(len(pack) if every_answer else 0):
        turns = turns_before(pack.row(row))
        for at, (asked, said) in enumerate(zip(turns, turns[1:])):
            if (asked["role"], said["role"]) == ("user", "assistant") and said["content"].strip():
                add(row, asked["content"], said["content"], turns[:at])
    ids = np.concatenate(pieces) if pieces else np.zeros(0, np.int32)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return EncodedRows(ids, starts, np.array(prompts, np.int64), np.array(of, np.int64))


def turns_before(entry: dict) -> list[dict]:
    """The turns of the conversation before the prompt of a packed row."""
    return json.loads(entry["messages"]) if entry.get("messages") else []


def refuse_absent(base: str | os.PathLike) -> None:
    """Raises ValueError for a path where nothing is; what could be a name on the hub is let through."""
    folder = Path(base).expanduser()
    if not folder.is_dir() and (folder.is_absolute() or str(base).startswith(".") or str(base).count("/") > 1):
        raise ValueError(f"{base}: no such folder; give the folder of a base model, or its name on the hub (owner/name)")


def tokenizer_folder(base: str | os.PathLike) -> Path:
    """The local folder of a base's tokenizer; a hub name is fetched (or found in the cache). Raises ValueError."""
    refuse_absent(base)
    if (folder := Path(base).expanduser()).is_dir():
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(base), allow_patterns=TOKENIZER_FILES))
    except Exception as error:  # the hub's client has its own dozen, and requests' behind them
        raise ValueError(f"{base}: no such folder here, and the hub did not give it: {' '.join(str(error).split())[:300]}") from None


def _converted(folder: Path) -> Any:
    """The fast tokenizer of a base that ships only its older files."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False).backend_tokenizer
    except Exception as error:
        raise ValueError(f"{folder}: no tokenizer.json, and its other files cannot be converted: {error}") from None


def _json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _token(value: Any) -> str:
    return value["content"] if isinstance(value, dict) else str(value)
