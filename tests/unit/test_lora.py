"""LoRA on a chat model: what its loss sees, what its adapter holds, and that merged adapters answer like their mean."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from test_chat import plan_pack
from tiny_bases import chat_pack, make_base
from tiny_bases import new_lora as tiny_lora
from trainyard.config.architectures import LoraOptions
from trainyard.config.merging import Acceptance
from trainyard.config.schema import Base
from trainyard.data.chat_pack import ChatPack, ChatWriter
from trainyard.data.chat_tokens import ChatTokenizer
from trainyard.data.views import View
from trainyard.lora.base_model import build_base_model
from trainyard.lora.choose import Choice, choose_merge
from trainyard.lora.generate import greedy_answers
from trainyard.lora.load import load_base
from trainyard.lora.merge import merge_adapters
from trainyard.lora.model import LoraChat
from trainyard.lora.trial import try_adapter
from trainyard.lora.validate import Candidates
from trainyard.models.layers import sample_seeds

OPTIONS = LoraOptions(r=4, alpha=8, max_length=400)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A base that has had a few steps, and its rows."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("base")
    pack = plan_pack(folder / "data", 60)
    settings = Base(width=32, layers=2, heads=2, feed_forward=64, vocabulary=400, steps=12, batch_size=8, lr=5e-3, context=400)
    report = build_base_model(settings, pack.path, pack.path, folder / "model")
    return folder / "model", pack, report


def new_lora(base, options=OPTIONS, seed=0, strong=True):
    """A LoRA model; `strong` fills B, which starts at zero, so that the adapter says something."""
    folder, pack, _ = base
    torch.manual_seed(seed)
    model = LoraChat.from_pack(options, pack, np.arange(len(pack)), {"base_model": str(folder)})
    if strong:
        for name, p in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(p, std=0.2)
    return model


def test_pretraining_lowers_the_loss_and_writes_what_transformers_loads(base):
    folder, pack, report = base
    assert report["validation_loss"] < 0.9 * np.log(report["vocabulary"])
    model, tokenizer = load_base(str(folder)), ChatTokenizer(folder)
    chat = LoraChat(model, tokenizer, str(folder), OPTIONS)
    with torch.no_grad():
        batch = chat.collate(pack, chat.items(pack, np.arange(len(pack))), None)
        loss = chat.losses(batch).sum() / batch["weight"].sum()
    assert float(loss) == pytest.approx(report["validation_loss"], rel=1e-5)
    from transformers import AutoTokenizer

    turns = [{"role": "user", "content": pack.text("prompt", 0)}, {"role": "assistant", "content": pack.text("answer", 0)}]
    theirs = AutoTokenizer.from_pretrained(folder).apply_chat_template(turns, tokenize=True, return_dict=False)
    assert theirs == chat.encoded(pack).at(0).tolist()


def test_the_loss_is_the_answers_tokens_only(base):
    """Against a reference loss by hand; and targets in the prompt can be anything."""
    model, pack = new_lora(base), base[1]
    items = model.items(pack, np.arange(6))
    batch = model.collate(pack, items, None)
    losses = model.losses(batch).detach()
    logits = model.model(input_ids=batch["input_ids"]).logits.log_softmax(-1).detach()
    encoded = model.encoded(pack)
    for i in range(6):
        n, answer = encoded.lengths[i], range(encoded.prompt[i], encoded.lengths[i])
        wanted = -sum(logits[i, t - 1, encoded.at(i)[t]] for t in answer)
        assert float(losses[i]) == pytest.approx(float(wanted), rel=1e-5)
        assert batch["weight"][i] == len(answer) == n - encoded.prompt[i]


def test_labels_of_the_prompt_and_of_padding_can_be_anything(base):
    """The labels alone are changed, not what the model reads."""
    model, pack = new_lora(base), base[1]

    def loss_and_gradients(batch):
        model.zero_grad()
        losses = model.losses(batch)
        losses.sum().backward()
        return losses.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]

    batch = model.collate(pack, model.items(pack, np.arange(6)), None)
    losses, gradients = loss_and_gradients(batch)
    labels = batch["labels"].clone()
    labels[~batch["scored"]] = 7
    assert (labels != batch["labels"]).any(1).all()
    perturbed, same = loss_and_gradients({**batch, "labels": labels})
    assert torch.equal(perturbed, losses) and all(map(torch.equal, gradients, same))
    first = batch["scored"][0].nonzero()[0, 0]
    labels[0, first] = 7
    changed = model.losses({**batch, "labels": labels}).detach()
    assert changed[0] != losses[0] and torch.equal(changed[1:], losses[1:])


def test_a_rows_loss_depends_on_no_other_row_and_no_padding(base):
    model, pack = new_lora(base), base[1]
    items = model.items(pack, np.arange(12))
    together = model.losses(model.collate(pack, items, None)).detach()
    alone = torch.cat([model.losses(model.collate(pack, items[i : i + 1], None)).detach() for i in range(12)])
    assert torch.allclose(together, alone, rtol=1e-5)


def test_dropout_is_a_samples_own(base):
    model, pack = new_lora(base, OPTIONS.model_copy(update={"dropout": 0.3})).train(), base[1]
    items, seeds = model.items(pack, np.arange(6)), torch.arange(100, 106)
    with sample_seeds(seeds):
        together = model.losses(model.collate(pack, items, None)).detach()
    with sample_seeds(seeds[:2]):
        first = model.losses(model.collate(pack, items[:2], None)).detach()
    with sample_seeds(seeds + 1):
        other = model.losses(model.collate(pack, items, None)).detach()
    assert torch.allclose(together[:2], first, rtol=1e-5) and not torch.allclose(together, other, rtol=1e-3)


def test_long_rows_are_left_out_whole_and_reported(base, tmp_path, caplog):
    with ChatWriter(tmp_path / "x.jsonl") as writer:
        for i, count in enumerate((1, 500, 2)):
            writer.add({}, {"id": f"row{i}", "group": "g", "prompt": "p", "answer": "12 " * count})
    pack, model = ChatPack(tmp_path / "x.jsonl"), new_lora(base)
    assert model.items(pack, np.arange(3))[:, 0].tolist() == [0, 2]
    assert "1 of 3 rows have more than max_length 400 tokens" in caplog.text and "row1" in caplog.text
    assert model.notes["rows_too_long"] == {"x.jsonl": 1}
    with pytest.raises(ValueError, match="all 1 rows"):
        model.items(pack, np.array([1]))


def test_only_the_adapter_learns_and_gradient_checkpointing_changes_nothing(base):
    grads = []
    for checkpointing in (False, True):
        model, pack = new_lora(base, OPTIONS.model_copy(update={"gradient_checkpointing": checkpointing})).train(), base[1]
        model.losses(model.collate(pack, model.items(pack, np.arange(4)), None)).sum().backward()
        grads.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
        assert {n for n, p in model.named_parameters() if p.requires_grad} == set(grads[-1])
        assert all("lora_" in n for n in grads[-1]) and len(model.trainable_state()) == len(grads[-1]) == 2 * 7 * 2
    assert all(torch.allclose(g, grads[1][n], rtol=1e-4, atol=1e-5) for n, g in grads[0].items())


def test_merged_adapters_answer_with_the_weighted_sum_of_their_deltas(base, tmp_path):
    """In plain peft, logits of the merged adapter equal those of the base with Σ w·Δ added to its weights."""
    from peft import PeftModel

    folders = []
    for i in range(3):
        model = new_lora(base, seed=i)
        folders.append(tmp_path / f"shard{i}")
        model.write(str(folders[-1]))
    certificate = merge_adapters(folders, tmp_path / "merged", "weighted", weights=[3, 2, 1])
    assert certificate["base_identity"] and certificate["relative_error"] < 1e-6
    ids = torch.arange(5, 45)[None]
    got = PeftModel.from_pretrained(load_base(str(base[0])), tmp_path / "merged").eval()(input_ids=ids).logits
    plain = load_base(str(base[0])).eval()
    weights = dict(plain.named_parameters())
    assert all(not p.isnan().any() for p in weights.values())
    untouched = plain(input_ids=ids).logits
    from safetensors.torch import load_file

    with torch.no_grad():
        for folder, weight in zip(folders, (1 / 2, 1 / 3, 1 / 6)):
            tensors = load_file(folder / "adapter_model.safetensors")
            for key, a in tensors.items():
                if "lora_A" in key:
                    target = key.removeprefix("base_model.model.").replace("lora_A.", "")
                    weights[target] += weight * 2 * tensors[key.replace("lora_A", "lora_B")] @ a
        wanted = plain(input_ids=ids).logits
    assert torch.allclose(got, wanted, atol=2e-4) and not torch.allclose(got, untouched, atol=1e-2)
    config = json.loads((tmp_path / "merged" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (12, 24, str(base[0]))
    assert try_adapter(tmp_path / "merged")[0] == []


def test_an_adapter_comes_back_from_its_state(base):
    first, second, pack = new_lora(base, seed=1), new_lora(base, seed=2), base[1]
    batch = first.collate(pack, first.items(pack, np.arange(4)), None)
    second.load_trainable_state(first.trainable_state())
    assert torch.equal(first.losses(batch), second.losses(batch))


def test_greedy_answers_do_not_depend_on_the_batch(base):
    model, pack = load_base(str(base[0])), base[1]
    tokenizer = ChatTokenizer(base[0])
    prompts = [tokenizer.prompt_ids(p) for p in pack.texts("prompt", range(5))]
    together = greedy_answers(model, prompts, tokenizer.end_ids, tokenizer.pad_id, 20)
    alone = [greedy_answers(model, [p], tokenizer.end_ids, tokenizer.pad_id, 20)[0] for p in prompts]
    assert together == alone
    # The end token ends an answer, and is not part of it.
    end = together[0][3]
    assert greedy_answers(model, prompts[:1], [end], tokenizer.pad_id, 20)[0] == together[0][: together[0].index(end)]


def test_the_first_merge_that_passes_is_accepted_and_refusals_say_why(base, tmp_path, monkeypatch):
    monkeypatch.setattr("trainyard.lora.validate.HEADROOM", 0.1)  # short answers: this is about who is accepted
    folder, pack, _ = base
    good, bad = tmp_path / "good", tmp_path / "bad"
    new_lora(base, strong=False).write(str(good))
    wild = new_lora(base)
    wild.load_trainable_state({k: v * 20 for k, v in wild.trainable_state().items()})
    wild.write(str(bad))
    chat = LoraChat(load_base(str(folder)), ChatTokenizer(folder), str(folder), OPTIONS)
    views = {"validation": View(pack, np.arange(20)), "test": View(pack, np.arange(20, 40))}
    limits = Acceptance(max_loss=base[2]["validation_loss"] * 1.3, min_valid_json=None)
    lines = []
    choice = Choice(Candidates(chat, torch.device("cpu")), views, limits, 2, lines.append)
    found = choose_merge(choice, [good], [("average", bad), ("best", good), ("later", good)])
    assert found["accepted"] == "best" and found["folder"] == str(good)
    states = {row["name"]: row["state"] for row in found["candidates"]}
    assert states == {"base": "", "good": "", "average": "refused", "best": "passed", "later": "not tried"}
    assert "answer loss" in found["reason"]
    rows = {row["name"]: row["figures"] for row in found["candidates"]}
    # An adapter whose B is zero is the base.
    assert rows["base"]["answer_loss"] == pytest.approx(rows["good"]["answer_loss"], rel=1e-5)
    choice.predictions("best").write(tmp_path / "p.parquet")
    import pandas

    table = pandas.read_parquet(tmp_path / "p.parquet")
    assert table.groupby(["split", "part"]).size().to_dict() == {
        (split, part): 20 if part == "answer" else 2
        for split in ("validation", "test")
        for part in ("answer", "valid_json", "schema", "geometry", "brief", "cost")
    }
    assert len(found["samples"]) == 2 and found["samples"][0]["prompt"] in pack.texts("prompt")


def test_a_base_that_does_not_fit_is_named(base, tmp_path):
    with pytest.raises(ValueError, match="target_modules nothing"):
        new_lora(base, OPTIONS.model_copy(update={"target_modules": ("nothing",)}))
    with pytest.raises(ValueError, match="no such folder"):
        LoraChat.from_pack(OPTIONS, base[1], np.arange(3), {"base_model": str(tmp_path / "absent")})


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox", "qwen2", "phi3", "gemma2", "mixtral", "opt"])
def test_any_causal_model_learns_and_its_merged_adapters_load_in_peft(tmp_path, kind):
    """Layers are found without being named: Conv1D, q k v in one, gate and up in one."""
    from peft import PeftModel

    folder, pack = make_base(tmp_path / "base", kind), chat_pack(tmp_path)
    shards = []
    for seed in range(2):
        model = tiny_lora(folder, pack, seed, strong=False, gradient_checkpointing=bool(seed)).train()
        batch = model.collate(pack, model.items(pack, np.arange(seed, 24, 2)), None)
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.05)
        losses = []
        for _ in range(8):
            optimizer.zero_grad()
            loss = model.losses(batch).sum() / batch["weight"].sum()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < losses[0]
        with torch.no_grad():  # the base's own dropout, which some of these have, is off
            assert torch.equal(model.losses(batch), model.losses(batch))
        shards.append((tmp_path / f"shard{seed}", model))
        model.write(str(shards[-1][0]))
    layers = {type(m).__name__ for n, m in shards[0][1].model.named_modules() if n.endswith("base_layer")}
    assert layers == {"Conv1D" if kind == "gpt2" else "Linear"}
    assert not any("lm_head" in n or "embed_out" in n for n, _ in shards[0][1].trainable_state().items())
    merge_adapters([folder for folder, _ in shards], tmp_path / "merged")
    ids = torch.arange(5, 25)[None]
    merged = PeftModel.from_pretrained(load_base(folder), tmp_path / "merged").eval()
    with torch.no_grad():
        # The mean of two updates, by hand: half of each on the base's own weights.
        plain = load_base(folder).eval()
        weights = dict(plain.named_modules())
        for _, model in shards:
            for name, layer in model.model.base_model.model.named_modules():
                if hasattr(layer, "get_delta_weight"):
                    weights[name].weight += 0.5 * layer.get_delta_weight("default")
        assert torch.allclose(merged(input_ids=ids).logits, plain(input_ids=ids).logits, atol=1e-4)


def test_layers_that_a_merge_would_refuse_are_refused_before_training(tmp_path):
    base, pack = make_base(tmp_path / "base", "mixtral"), chat_pack(tmp_path)
    with pytest.raises(ValueError, match="w1, w2, w3: these are bare parameters"):
        tiny_lora(base, pack, target_modules=("w1", "w2", "w3"))


def test_in_bfloat16_the_base_is_half_and_the_adapter_whole(tmp_path):
    base, pack = make_base(tmp_path / "base", "llama"), chat_pack(tmp_path)
    whole, half = (tiny_lora(base, pack, dtype=dtype) for dtype in ("float32", "bfloat16"))
    kinds = {"lora_" in name: p.dtype for name, p in half.model.named_parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}
    batch = whole.collate(pack, whole.items(pack, np.arange(24)), None)
    assert torch.allclose(half.losses(batch), whole.losses(batch), rtol=0.05)
    half.losses(batch).sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in half.parameters() if p.grad is not None)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_the_bases_weights_stay_in_the_mapped_file_which_processes_share(tmp_path):
    base, pack = make_base(tmp_path / "base", "llama"), chat_pack(tmp_path)
    model = tiny_lora(base, pack)
    spans = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith("base/model.safetensors")]
    spans = [[int(end, 16) for end in span[0].split("-")] for span in spans]
    places = {name: any(low <= p.data_ptr() < high for low, high in spans) for name, p in model.model.named_parameters()}
    assert {name for name, mapped in places.items() if not mapped} == {name for name in places if "lora_" in name}


def test_of_a_conversation_the_last_answer_is_learned_or_every_one(tmp_path):
    base, pack = make_base(tmp_path / "base", "llama"), chat_pack(tmp_path)
    last, every = tiny_lora(base, pack), tiny_lora(base, pack, answers="every")
    rows = np.arange(4, 12)
    assert pack.texts("id", [5, 11]) == ["talk5", "talk11"]
    assert last.training_items(pack, rows)[:, 0].tolist() == list(range(4, 12))
    items = every.training_items(pack, rows)
    assert items[:, 0].tolist() == [*range(4, 12), 24, 25, 26, 27]  # two earlier answers of each of the two
    assert every.encoded(pack).of[24:28].tolist() == [5, 5, 11, 11]
    assert every.items(pack, rows).tolist() == last.items(pack, rows).tolist()  # what is held out is asked the same
    turns = json.loads(pack.row(5)["messages"])
    encoded, tokenizer = every.encoded(pack), every.tokenizer
    for sample, at in ((24, 1), (25, 3)):
        prompt, answer = tokenizer.pair_ids(turns[at]["content"], turns[at + 1]["content"], turns[:at])
        assert encoded.at(sample).tolist() == prompt + answer and encoded.prompt[sample] == len(prompt)
    # Prompts of later turns hold the earlier answers, unscored: no token counts twice.
    weight = every.collate(pack, items, None)["weight"].sum()
    said = [turn["content"] for row in (5, 11) for turn in json.loads(pack.row(row)["messages"]) if turn["role"] == "assistant"]
    answers = [*pack.texts("answer", rows), *said]
    assert int(weight) == sum(len(tokenizer.pair_ids("p", answer)[1]) for answer in answers)


def test_the_adapter_file_is_the_same_bytes_every_time(tmp_path):
    from trainyard.models.base import save_tensors

    tensors = {"a": torch.arange(3.0), "b": torch.ones(2, 2)}
    for i in range(8):
        save_tensors(tmp_path / f"{i}.safetensors", tensors, {f"key{k}": str(k) for k in (range(6) if i % 2 else reversed(range(6)))})
    assert len({p.read_bytes() for p in tmp_path.iterdir()}) == 1
    from safetensors import safe_open

    with safe_open(tmp_path / "0.safetensors", "pt") as file:
        assert file.metadata()["key5"] == "5" and torch.equal(file.get_tensor("b"), tensors["b"])
