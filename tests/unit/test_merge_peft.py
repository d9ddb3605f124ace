"""What plain peft makes of merged adapters: they load, and answer as the base with the weighted sum of the updates added."""

import copy
import json

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from trainyard.lora.merge import merge_adapters
from transformers import LlamaConfig, LlamaForCausalLM

WEIGHTS = (0.5, 0.3, 0.2)


@pytest.fixture(scope="module")
def llama():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=48, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=64, attention_bias=True, tie_word_embeddings=False,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


class Convolutions(nn.Module):
    """A model with the layer kinds that a Llama lacks."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv1d(8, 6, 1)
        self.last = nn.Linear(6, 5)

    def forward(self, x):
        return self.last(self.second(self.first(x).flatten(2)).mean(-1))


def trained(base, folder, seed, **options):
    """An adapter as peft saves it, with every trainable number moved."""
    options = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"], **options}
    model = get_peft_model(copy.deepcopy(base), LoraConfig(**options))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(folder)
    return folder


def with_sum(base, folders, weights):
    """The base with Σ w (W_k − W) added, where W_k has adapter k merged into it by peft, in float64."""
    plain = copy.deepcopy(base).double()
    total = {n: p.clone() for n, p in plain.state_dict().items()}
    for folder, weight in zip(folders, weights):
        merged = PeftModel.from_pretrained(copy.deepcopy(base), folder).double().merge_and_unload().state_dict()
        for key, value in total.items():
            value += weight * (merged[key] - plain.state_dict()[key])
    plain.load_state_dict(total)
    return plain


@torch.no_grad()
def check(base, inputs, tmp_path, tolerance=1e-5, merge=None, **options):
    folders = [trained(base, tmp_path / str(i), i, **options) for i in range(3)]
    merge_adapters(folders, tmp_path / "out", "weighted", weights=WEIGHTS, **(merge or {}))
    logits = lambda model, x: getattr(out := model(x), "logits", out)  # noqa: E731
    loaded = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / "out")
    got = logits(loaded.eval().float(), inputs)
    wanted = logits(with_sum(base, folders, WEIGHTS), inputs.double() if inputs.is_floating_point() else inputs)
    change = (wanted - logits(base, inputs)).abs().max()
    assert (got - wanted).abs().max() < tolerance * max(1.0, float(wanted.abs().max())) and change > 1e-3
    return json.loads((tmp_path / "out" / "adapter_config.json").read_text())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True, "r": 3},
        {"rank_pattern": {"layers.0.self_attn.q_proj": 2, "down_proj": 6}, "alpha_pattern": {"v_proj": 3}},
        {"target_modules": ["embed_tokens", "q_proj"]},
        {"target_modules": ["lm_head", "o_proj"]},
        {"modules_to_save": ["lm_head"]},
        {"bias": "lora_only"},
        {"bias": "all"},
        {"lora_bias": True, "target_modules": ["q_proj", "k_proj"]},
        {"init_lora_weights": "mica"},
        {"layers_to_transform": [1]},
    ],
    ids=str,
)
def test_logits_are_those_of_the_weighted_sum_of_the_updates(llama, tmp_path, options):
    check(llama, torch.arange(40)[None] % 48, tmp_path, **options)


def test_convolutions_are_merged_too(tmp_path):
    torch.manual_seed(1)
    config = check(Convolutions().eval(), torch.randn(2, 3, 6, 6), tmp_path, target_modules=["first", "second", "last"])
    assert config["r"] == 12


@pytest.mark.parametrize("dtype, tolerance", [("float16", 2e-3), ("bfloat16", 2e-2)])
def test_half_precision_results_load_and_are_near(llama, tmp_path, dtype, tolerance):
    check(llama, torch.arange(40)[None] % 48, tmp_path, tolerance, {"dtype": dtype})


def test_a_tolerance_with_ranks_of_their_own_loads(llama, tmp_path):
    pattern = {"rank_pattern": {"q_proj": 1, "layers.1.self_attn.v_proj": 2}}
    config = check(llama, torch.arange(40)[None] % 48, tmp_path, merge={"tolerance": 1e-4}, **pattern)
    assert config["rank_pattern"] and np.all(np.array(list(config["rank_pattern"].values())) < config["r"])


def test_the_values_of_a_strategy_reach_the_model(llama, tmp_path):
    folders = [trained(llama, tmp_path / str(i), i) for i in range(3)]
    merge_adapters(folders, tmp_path / "out", "ties", density=1, rank=32)
    loaded = PeftModel.from_pretrained(copy.deepcopy(llama), tmp_path / "out")
    parts = [PeftModel.from_pretrained(copy.deepcopy(llama), f) for f in folders]
    layer = lambda model: model.base_model.model.model.layers[0].mlp.down_proj.get_delta_weight("default")  # noqa: E731
    updates = torch.stack([layer(p) for p in parts])
    agree = updates.sign() == updates.sum(0).sign()
    wanted = (updates * agree).sum(0) / agree.sum(0)
    assert torch.allclose(layer(loaded), wanted, atol=1e-5)
