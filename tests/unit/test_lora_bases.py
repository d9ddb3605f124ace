"""LoRA on bases of many architectures, with random weights: found layers, number formats, shared weights, conversations."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_bases import chat_pack, make_base, new_lora
from trainyard.config.architectures import LoraOptions
from trainyard.lora.load import load_base
from trainyard.lora.merge import merge_adapters
from trainyard.lora.model import LoraChat


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox", "qwen2", "phi3", "gemma2", "mixtral", "opt"])
def test_any_causal_model_learns_and_its_merged_adapters_load_in_peft(tmp_path, kind):
    """Layers are found without being named: Conv1D, q k v in one, gate and up in one."""
    from peft import PeftModel

    folder, pack = make_base(tmp_path / "base", kind), chat_pack(tmp_path)
    shards = []
    for seed in range(2):
        model = new_lora(folder, pack, seed, strong=False, gradient_checkpointing=bool(seed)).train()
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
        new_lora(base, pack, target_modules=("w1", "w2", "w3"))


def test_in_bfloat16_the_base_is_half_and_the_adapter_whole(tmp_path):
    base, pack = make_base(tmp_path / "base", "llama"), chat_pack(tmp_path)
    whole, half = (new_lora(base, pack, dtype=dtype) for dtype in ("float32", "bfloat16"))
    kinds = {"lora_" in name: p.dtype for name, p in half.model.named_parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}
    batch = whole.collate(pack, whole.items(pack, np.arange(24)), None)
    assert torch.allclose(half.losses(batch), whole.losses(batch), rtol=0.05)
    half.losses(batch).sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in half.parameters() if p.grad is not None)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_the_bases_weights_stay_in_the_mapped_file_which_processes_share(tmp_path):
    base, pack = make_base(tmp_path / "base", "llama"), chat_pack(tmp_path)
    model = new_lora(base, pack)
    spans = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith("base/model.safetensors")]
    spans = [[int(end, 16) for end in span[0].split("-")] for span in spans]
    places = {name: any(low <= p.data_ptr() < high for low, high in spans) for name, p in model.model.named_parameters()}
    assert {name for name, mapped in places.items() if not mapped} == {name for name in places if "lora_" in name}


def test_of_a_conversation_the_last_answer_is_learned_or_every_one(tmp_path):
    base, pack = make_base(tmp_path / "base", "llama"), chat_pack(tmp_path)
    last, every = new_lora(base, pack), new_lora(base, pack, answers="every")
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


def test_a_base_in_the_home_folder_is_found_by_every_part(tmp_path, monkeypatch):
    """The tokenizer and the adapter's identity knew `~`, the weights and the checkpoints' fingerprint took it for a name on the hub."""
    from trainyard.train.job import run_fingerprint

    monkeypatch.setenv("HOME", str(tmp_path))
    base = make_base(tmp_path / "base", "llama")
    assert load_base("~/base").config.model_type == "llama"
    assert run_fingerprint({}, {}, {"base_model": "~/base"}, "") == run_fingerprint({}, {}, {"base_model": base}, "")


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
        ("gpt2", {"target_modules": ["c_attn"], "bias": "all", "fan_in_fan_out": True}),
        ("llama", {"target_modules": ["q_proj"]}),
    ],
)
def test_an_adapter_that_is_taken_off_leaves_the_base_as_it_was(tmp_path, kind, more):
    """peft leaves whole weights and biases of the adapter behind, and the base would be judged with them."""
    from peft import LoraConfig, get_peft_model
    from trainyard.data.chat_tokens import ChatTokenizer
    from trainyard.data.views import View
    from trainyard.lora.validate import Candidates

    base, pack = make_base(tmp_path / "base", kind), chat_pack(tmp_path, 12)
    model = get_peft_model(load_base(base), LoraConfig(r=4, task_type="CAUSAL_LM", **more))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(tmp_path / "adapter")
    candidates = Candidates(LoraChat(load_base(base), ChatTokenizer(base), base, LoraOptions(max_length=200)), torch.device("cpu"))
    losses = []
    for folder in (None, tmp_path / "adapter", None, tmp_path / "adapter", None):
        candidates.put_on(folder)
        losses.append(candidates.answer(View(pack, np.arange(12)), 0).loss)
    assert losses[0] == losses[2] == losses[4] != losses[1] == losses[3]
