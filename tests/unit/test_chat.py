"""Chat rows: what is read, what is refused and why, and how rows are packed, encoded and counted."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from floor_plans import plan_pack
from hypothesis import given, settings
from hypothesis import strategies as st
from trainyard.baselines.chat import baselines
from trainyard.config.features import ChatFeatures
from trainyard.config.load import load_config
from trainyard.data.chat import ChatReader
from trainyard.data.chat_pack import ChatPack, ChatWriter
from trainyard.data.chat_tokens import ChatTokenizer, encode_pack
from trainyard.data.refused import Refused
from trainyard.data.views import View
from trainyard.lora.tokenizer import train_tokenizer, write_tokenizer


def read(row, fields=None, **features):
    blob = row if isinstance(row, bytes) else json.dumps(row).encode()
    return ChatReader(ChatFeatures(**features), Path("."), {"fields": fields or {}}).read([blob], {})[1]


def test_fields_may_be_nested_and_objects_become_compact_json():
    row = {"input": {"text": ["a", "Plan it"]}, "output": {"site": [1, 2], "name": "ö"}}
    found = read(row, {"prompt": "input.text.1", "answer": "output"})
    assert (found["prompt"], found["answer"]) == ("Plan it", '{"site":[1,2],"name":"ö"}')


@pytest.mark.parametrize(
    ("context", "prompt"),
    [
        ("a, b, c", "Sort these.\n\na, b, c"),
        ("", "Sort these."),
        (None, "Sort these."),
        ([3, 1], "Sort these.\n\n[3,1]"),
        (3, "Sort these.\n\n3"),
    ],
)
def test_a_context_is_put_behind_the_prompt_where_there_is_one(context, prompt):
    fields = {"prompt": "instruction", "context": "input", "answer": "output"}
    row = {"instruction": "Sort these.", "input": context, "output": "done"}
    assert read(row, fields)["prompt"] == prompt
    assert read({k: v for k, v in row.items() if k != "input"}, fields)["prompt"] == "Sort these."


def test_patterns_cut_prompt_and_answer_out_of_one_field_across_lines():
    row = {"code": "###Instruction: make\na list\n###Output: [1,\n2]"}
    fields = {"prompt": "code", "prompt_pattern": "Instruction: (.*)\n###Output", "answer": "code", "answer_pattern": "###Output: (.*)"}
    found = read(row, fields)
    assert (found["prompt"], found["answer"]) == ("make\na list", "[1,\n2]")
    with pytest.raises(Refused, match="answer_pattern finds nothing in field 'code'"):
        read({"code": "###Instruction: x\n###Output"}, fields)


@pytest.mark.parametrize(
    "code",
    [
        "###Instruction: Find 'it',\nplease.\n###Output: {'api_call': 'f()'}\n",
        "{'Instruction': Find 'it',\nplease., 'Output': {'api_call': \"f()\"}}",
        "{\"Instruction\": Find 'it',\nplease.\n###Output: <<<api_call>>>: f()",
    ],
)
def test_the_shipped_overlay_reads_rows_of_every_spelling(tmp_path, code):
    home = Path(__file__).parents[2]
    text = (home / "config/examples/own_instructions.yaml").read_text()
    assert len(text.splitlines()) <= 20
    for name in re.findall(r"/path/to/([\w.]+)", text):
        (tmp_path / name).write_text("")
    suite = load_config(yaml.safe_load(text.replace("/path/to", str(tmp_path))), home).suites["housebrain"]
    assert suite.datasets["plans"].shards == 6
    for dataset in suite.datasets.values():
        assert dataset.generator is None and dataset.group.field == "api_call"
        found = read({"code": code, "api_call": "f()"}, dataset.fields)
        assert (found["prompt"], found["answer"]) == ("Find 'it',\nplease.", "f()")


def test_a_conversation_gives_its_last_answer_and_keeps_what_came_before():
    turns = [("system", "be brief"), ("user", "one"), ("assistant", "1"), ("user", "two"), ("assistant", "2"), ("user", "unanswered")]
    for role, content in (("role", "content"), ("from", "value")):
        found = read({"messages": [{role: r, content: c} for r, c in turns]})
        assert (found["prompt"], found["answer"]) == ("two", "2")
        assert [t["content"] for t in json.loads(found["messages"])] == ["be brief", "one", "1"]


def test_a_prompt_or_an_answer_may_be_a_list_of_messages():
    asked = [{"role": "Developer", "content": "be brief"}, {"role": "user", "content": "two"}]
    said = [{"role": "assistant", "content": "2"}]
    for prompt, answer in ((asked, said), (asked, "2"), (asked, 2)):
        found = read({"input": prompt, "ideal": answer, "more": "of it"}, {"prompt": "input", "answer": "ideal", "context": "more"})
        assert (found["prompt"], found["answer"]) == ("two\n\nof it", "2")
        assert json.loads(found["messages"]) == [{"role": "system", "content": "be brief"}]
    assert read({"prompt": "two", "answer": said})["answer"] == "2"
    edges = [{"from": "hall", "to": "kitchen"}]
    assert read({"prompt": "connect", "answer": edges})["answer"] == '[{"from":"hall","to":"kitchen"}]'
    with pytest.raises(Refused, match="field 'prompt' holds no answer of an assistant to a user"):
        read({"prompt": asked[:1], "answer": "2"})


def test_parts_of_text_are_one_text():
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    found = read({"messages": [{"role": "user", "content": parts}, {"role": "model", "content": [{"type": "output_text", "text": "3"}]}]})
    assert (found["prompt"], found["answer"]) == ("one two", "3")


@pytest.mark.parametrize(("value", "answer"), [(3, "3"), (0.5, "0.5"), (True, "true"), ([1, "a"], '[1,"a"]')])
def test_what_is_no_text_is_learned_as_json_writes_it(value, answer):
    assert read({"prompt": "a", "answer": value})["answer"] == answer


CALL = [{"function": {"name": "f", "arguments": "{}"}}]


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        ({"role": "assistant", "content": None, "tool_calls": CALL}, "a call of a tool .tool_calls., which is not read"),
        ({"role": "assistant", "content": "let me look", "function_call": CALL[0]}, "a call of a tool .function_call."),
        ({"role": "tool", "content": "12"}, "a message with the role 'tool'; those of users, assistants"),
        (
            {"role": "user", "content": [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {}}]},
            "a part of type 'image_url'",
        ),
        ({"role": "user"}, "not text but null"),
    ],
)
def test_a_conversation_that_would_lose_something_is_refused(turn, words):
    sound = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    with pytest.raises(Refused, match=words):
        read({"messages": [*sound, turn, *sound]})


@pytest.mark.parametrize(
    "row, words",
    [
        (b"{not json", "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[1]", "object was expected"),
        ({"prompt": "a"}, "field 'answer' is missing; the row has prompt"),
        ({"prompt": "a", "answer": None}, "not text but null"),
        ({"prompt": "a", "answer": "  "}, "answer .* is empty"),
        ({"prompt": "a\0b", "answer": "c"}, "NUL"),
        ({"prompt": "a", "answer": "x" * 300}, "301 characters, more than max_chars 200"),
        (b'{"prompt": "a", "answer": "\\ud800"}', "surrogate"),
        ({"messages": [{"role": "user", "content": "hi"}]}, "no answer of an assistant"),
        ({"messages": [{"role": {"name": "user"}, "content": "hi"}]}, "role {'name': 'user'}"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"prompt": "a", "answer": {"x": NaN}}', "not JSON: NaN"),
        (b'{"prompt": "a", "answer": {"x": 1e999}}', "too large"),
        (b'{"prompt": "a", "answer": {"x": ' + b"9" * 5000 + b"}}", "not JSON: Exceeds"),
        (b'{"prompt": "a", "ans', "not JSON: Unterminated string"),
        (b'{"prompt": "a\0b", "answer": "b"}', "not JSON: Invalid control character"),
        (b'{"prompt": "a\\u0000b", "answer": "b"}', "NUL character"),
        (b'{"prompt": "\\ud800", "answer": "b"}', "half of a surrogate pair"),
        (b'{"prompt": "\xff", "answer": "b"}', "not UTF-8"),
    ],
)
def test_bad_rows_are_refused_with_the_reason(row, words):
    with pytest.raises(Refused, match=words):
        read(row, max_chars=200)


def test_a_mistake_in_fields_is_said_before_any_row_is_read():
    wrong = (
        ({"promt": "a"}, "promt"),
        ({"prompt": "a", "prompt_pattern": "("}, "regular"),
        ({"answer_pattern": "x"}, "group"),
        ({"messages": "a", "answer": "b"}, "leave out answer"),
    )
    for fields, words in wrong:
        with pytest.raises(ValueError, match=words):
            ChatReader(ChatFeatures(), Path("."), {"fields": fields})


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), max_size=8))
def test_packed_rows_come_back_whatever_text_they_hold(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("pack") / "train.jsonl"
    with ChatWriter(path) as writer:
        for i, (prompt, answer) in enumerate(rows):
            writer.add({}, {"id": f"a\udcff#{i}", "group": "g", "prompt": prompt, "answer": answer, "messages": ""})
    pack = ChatPack(path)
    assert len(pack) == len(rows)
    assert [(pack.text("prompt", i), pack.text("answer", i)) for i in range(len(rows))] == rows
    assert pack.texts("id") == [f"a\udcff#{i}" for i in range(len(rows))]


def test_a_failed_writing_leaves_nothing(tmp_path):
    with pytest.raises(KeyError), ChatWriter(tmp_path / "x.jsonl") as writer:
        writer.add({}, {"id": "1"})
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def plans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plans")
    pack = plan_pack(folder)
    write_tokenizer(train_tokenizer(pack.texts("prompt") + pack.texts("answer"), 400), folder, 512)
    return pack, folder


def test_numbers_and_values_are_tokens_of_their_own(plans):
    tokenizer = ChatTokenizer(plans[1])
    words = [tokenizer.tokenizer.decode([i]) for i in tokenizer.pair_ids("p", '{"name":"bath","box":[10,2,3,4]}')[1]]
    assert "bath" in words and all(not (any(c.isdigit() for c in w) and not w.isdigit()) for w in words)


def test_prompts_are_the_same_ids_in_training_and_in_answering(plans):
    tokenizer = ChatTokenizer(plans[1])
    prompt, answer = tokenizer.pair_ids("Plan a house.", '{"a":1}')
    assert prompt == tokenizer.prompt_ids("Plan a house.")
    assert answer[-1] == tokenizer.end_ids[0] and tokenizer.decode(answer) == '{"a":1}'
    assert tokenizer.tokenizer.decode(prompt + answer, skip_special_tokens=False) == '<|user|>Plan a house.<|assistant|>{"a":1}<|end|>'


def test_a_base_without_a_template_gets_a_plain_one_and_an_end(plans, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes((plans[1] / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "<|end|>"}}))
    tokenizer = ChatTokenizer(tmp_path)
    prompt, answer = tokenizer.pair_ids("Plan.", "yes")
    assert tokenizer.tokenizer.decode(prompt) == "Plan.\n\n" and answer[-1] == tokenizer.end_ids[0]
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ValueError, match="names no end token"):
        ChatTokenizer(tmp_path)


@pytest.mark.parametrize("template", [True, False])
def test_special_tokens_that_an_answer_quotes_do_not_cut_it(plans, tmp_path, template: bool):
    (tmp_path / "tokenizer.json").write_bytes((plans[1] / "tokenizer.json").read_bytes())
    keys = json.loads((plans[1] / "tokenizer_config.json").read_text()) if template else {"eos_token": {"content": "<|end|>"}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(keys))
    tokenizer = ChatTokenizer(tmp_path)
    end = tokenizer.end_ids[0]
    for answer in ("it ends with <|end|> and then goes on", "<|user|> asks", "<|end|> and <|end|> again"):
        ids = tokenizer.pair_ids("p", answer)[1]
        assert tokenizer.decode(ids) == answer and ids.count(end) == 1 and ids[-1] == end
    plain = tokenizer.pair_ids("p", "yes")[1]
    for answer in ("yes<|end|>", "yes<|end|><|end|>"):  # as dumps of other models have it: there it is an end
        assert tokenizer.pair_ids("p", answer)[1] == plain


def test_ngrams_score_the_answers_only_and_beat_the_unigram(plans):
    pack, folder = plans
    train, held = View(pack, np.arange(90)), View(pack, np.arange(90, 120))
    found = {b.name: b for b in baselines({"base_model": str(folder), "options": {"max_length": 512}}, train, held)}
    encoded = encode_pack(ChatTokenizer(folder), pack)
    loss = {}
    for name, baseline in found.items():
        part = baseline.parts["answer"]
        assert part.count.tolist() == (encoded.lengths - encoded.prompt)[90:].tolist()
        loss[name] = part.nll.sum() / part.count.sum()
    assert loss["trigram"] < loss["bigram"] < loss["unigram"] < np.log(400)
    assert {b.level for b in found.values()} == {"trivial", "simple"}
