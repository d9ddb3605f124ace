"""LoRA on a chat model: what its loss sees, what its adapter holds, and that merged adapters answer like their mean."""

import json

import numpy as np
import pytest
import tiny_bases
import torch
from floor_plans import plan_pack
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


def new_lora(base, seed=0, strong=True, **options) -> LoraChat:
    return tiny_bases.new_lora(str(base[0]), base[1], seed, strong, max_length=OPTIONS.max_length, **options)


def test_a_base_that_cannot_be_built_leaves_nothing(base, tmp_path):
    """A folder with a tokenizer and no weights would pass for a base until it is loaded."""
    with pytest.raises(ValueError, match="every row is longer than base.context, 32"):
        build_base_model(Base(width=32, heads=2, vocabulary=400, context=32), base[1].path, base[1].path, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_unigram_and_bigram_learn_from_every_answer_where_the_model_does(tmp_path):
    """Not from the last alone, or the model beats them by having seen more."""
    from trainyard.baselines.chat import baselines

    folder, pack = tiny_bases.make_base(tmp_path / "model", "llama"), tiny_bases.chat_pack(tmp_path, 24)
    found = {}
    for answers in ("last", "every"):
        settings = {"base_model": folder, "options": {"max_length": 200, "answers": answers}}
        unigram = next(b for b in baselines(settings, View(pack, np.arange(24)), View(pack, np.arange(24))) if b.name == "unigram")
        found[answers] = unigram.parts["answer"]
    assert (found["last"].count == found["every"].count).all() and (found["last"].nll != found["every"].nll).all()


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
    model, pack = new_lora(base, dropout=0.3).train(), base[1]
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
        model, pack = new_lora(base, gradient_checkpointing=checkpointing).train(), base[1]
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
        new_lora(base, target_modules=("nothing",))
    with pytest.raises(ValueError, match="no such folder"):
        LoraChat.from_pack(OPTIONS, base[1], np.arange(3), {"base_model": str(tmp_path / "absent")})
