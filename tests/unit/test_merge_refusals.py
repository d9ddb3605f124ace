"""Adapters that cannot be merged are refused by file and field, one by one, and nothing is left behind."""

import json
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from adapters import SHAPES, adapter, deltas, error, name, spoil, weighted_sum
from trainyard.lora.adapter import Adapter
from trainyard.lora.adapter_config import KNOWN, MORE, AdapterError
from trainyard.lora.merge import merge_adapters

SCRIPT = Path(__file__).parents[2] / "workflow" / "scripts" / "merge_adapters.py"
Q = "layers.0.self_attn.q_proj"
Q_A, Q_B = name("layers.0.self_attn.q_proj", "A"), name("layers.0.self_attn.q_proj", "B")


@pytest.mark.parametrize(
    "config, change, words",
    [
        ({"base_model_name_or_path": "other"}, None, "base_model_name_or_path: other, but .* has base; .* --same-base"),
        ({"lora_alpha": 16}, None, "lora_alpha: 16, but .* has 8"),
        ({"r": 8}, None, "r: 8, but .* has 4; .* --mixed"),
        ({"use_rslora": True}, None, "use_rslora: True"),
        ({"task_type": "SEQ_CLS"}, None, "task_type: SEQ_CLS"),
        ({"target_modules": ["q_proj"]}, None, "target_modules"),
        ({"rank_pattern": {"q_proj": 2}}, None, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 2}}, None, "alpha_pattern"),
        ({"bias": "lora_only"}, None, "bias: lora_only, but .* has None"),
        ({"modules_to_save": ["lm_head"]}, None, "modules_to_save"),
        ({"lora_bias": True}, None, "lora_bias"),
        # What real configurations hold beside plain LoRA.
        ({"peft_type": "ADALORA", "init_r": 12, "target_r": 8}, None, "peft_type: ADALORA"),
        ({"peft_type": "IA3", "feedforward_modules": ["down_proj"]}, None, "peft_type: IA3"),
        ({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 20}, None, "peft_type: PROMPT_TUNING"),
        ({"peft_type": "HIRA"}, None, "peft_type: HIRA"),
        ({"peft_type": None}, None, "peft_type: None"),
        ({"use_dora": True}, None, "use_dora: DoRA"),
        ({"use_bdlora": {"target_modules_bd_a": ["o_proj"]}}, None, "use_bdlora"),
        ({"kasa_config": {"beta": 0.0001, "gamma": 0.001}}, None, "kasa_config"),
        ({"init_lora_weights": "pissa"}, None, "init_lora_weights: 'pissa'"),
        ({"init_lora_weights": "olora"}, None, "init_lora_weights: 'olora'"),
        ({"bias": "some"}, None, "bias: expected none, all or lora_only"),
        ({"layer_replication": [[0, 4], [2, 5]]}, None, "layer_replication"),
        ({"trainable_token_indices": [1, 2]}, None, "trainable_token_indices"),
        ({"target_parameters": ["experts.weight"]}, None, "target_parameters"),
        ({"invented": {"beta": 1}}, None, "invented: this program does not know"),
        ({"r": 0}, None, "r: expected a whole number above 0"),
        ({"r": 4.5}, None, "r: expected a whole number above 0"),
        ({"r": True}, None, "r: expected a whole number above 0"),
        ({"lora_alpha": "8"}, None, "lora_alpha: expected a number"),
        ({"rank_pattern": {"q_proj": -1}}, None, "rank_pattern: 'q_proj' must be a number above 0"),
        ({"alpha_pattern": {"(": 3}}, None, "alpha_pattern: '\\(' is not a regular expression"),
        ({}, spoil(Q_A, np.full((4, 32), np.nan, np.float32)), "q_proj.lora_A.weight' holds NaN"),
        ({}, spoil(Q_B, np.full((24, 4), np.inf, np.float32)), "infinity"),
        ({}, lambda t: t.pop(Q_A), "has no lora_A"),
        ({}, lambda t: [t.pop(Q_A), t.pop(Q_B)], "lacks '.*q_proj"),
        ({}, spoil(Q_A, np.ones((4, 31), np.float32)), r"shape \(4, 31\), in .* \(4, 32\)"),
        ({}, spoil(Q_A, np.ones((3, 32), np.float32)), "do not multiply"),
        ({}, lambda t: t.update({Q_A: np.ones((3, 32), np.float32), Q_B: np.ones((24, 3), np.float32)}), "has rank 3, but r .* says 4"),
        ({}, spoil("base_model.model.norm.weight", np.ones((2, 2), np.float32)), "neither a lora_A nor a lora_B"),
        ({}, spoil("base_model.model.lm_head.weight", np.ones((2, 2), np.float32)), "has 'base_model.model.lm_head.weight' besides"),
        ({}, spoil(Q_A.replace("lora_A.weight", "lora_magnitude_vector"), np.ones(3, np.float32)), "magnitude"),
        ({}, spoil(Q_A, np.ones((4, 32), np.int64)), "type I64"),
        ({}, spoil(Q_A, np.ones((0, 32), np.float32)), "is empty"),
        ({}, lambda t: t.update({Q_A: np.ones((4, 8, 3, 3), np.float32), Q_B: np.ones((24, 2, 1, 1), np.float32)}), "in groups"),
    ],
)  # fmt: skip
def test_what_does_not_belong_together_is_refused_by_name_and_nothing_is_written(tmp_path, config, change, words):
    good, bad = adapter(tmp_path / "good", 0), adapter(tmp_path / "bad", 1, config, change)
    with pytest.raises(AdapterError, match=words) as found:
        merge_adapters([good, bad], tmp_path / "out")
    assert str(bad) in str(found.value) and "\n" not in str(found.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad", "good"]


@pytest.mark.parametrize(
    "text, words", [("{", "not JSON"), ("[1]", "expected a JSON object"), ("[" * 100_000, "not JSON"), (None, "cannot be read")]
)
def test_a_config_that_is_none_is_refused(tmp_path, text, words):
    folder = adapter(tmp_path / "a", 0)
    path = folder / "adapter_config.json"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(AdapterError, match=f"adapter_config.json: {words}"):
        merge_adapters([folder], tmp_path / "out")


@pytest.mark.parametrize(
    "data, words",
    [
        (b"", "not a whole safetensors file"),
        (struct.pack("<Q", 1 << 60) + b"{}", f"claims {1 << 60} bytes"),
        (struct.pack("<Q", 4) + b"nope", "not JSON"),
        (struct.pack("<Q", 2) + b"[]", "not a JSON object"),
        (struct.pack("<Q", 2) + b"{}", "holds no tensors"),
        (None, "truncated"),
    ],
)
def test_broken_files_are_refused(tmp_path, data, words):
    folder = adapter(tmp_path / "a", 0)
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-9] if data is None else data)
    with pytest.raises(AdapterError, match=words):
        merge_adapters([folder], tmp_path / "out")
    path.unlink()
    (folder / "adapter_model.bin").write_bytes(b"cos\nsystem\n")
    with pytest.raises(AdapterError, match="pickle"):
        merge_adapters([folder], tmp_path / "out")


def test_tensors_that_share_bytes_are_refused(tmp_path):
    folder = adapter(tmp_path / "a", 0)
    path = folder / "adapter_model.safetensors"
    data = path.read_bytes()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:start])
    header[Q_A]["data_offsets"] = header[name("layers.0.mlp.up_proj", "A")]["data_offsets"]
    header[Q_A]["shape"] = header[name("layers.0.mlp.up_proj", "A")]["shape"]
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[start:])
    with pytest.raises(AdapterError, match="shares bytes with another tensor"):
        merge_adapters([folder], tmp_path / "out")


@pytest.mark.parametrize("weights", [[0, 0], [1, -1], [float("nan"), 1], [1], [float("inf"), 1]])
def test_senseless_weights_are_refused(tmp_path, weights):
    folders = [adapter(tmp_path / str(i), i) for i in range(2)]
    with pytest.raises(AdapterError, match="weights"):
        merge_adapters(folders, tmp_path / "out", "weighted", weights=weights)
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:overflow")
def test_numbers_are_merged_as_long_as_their_products_can_be_held(tmp_path):
    folders = [adapter(tmp_path / str(i), i, change=spoil(Q_A, np.full((4, 32), 3e38, np.float32))) for i in range(2)]
    for rank in (None, 3):
        certificate = merge_adapters(folders, tmp_path / "out", rank=rank)
        assert error({Q: deltas(tmp_path / "out")[Q]}, {Q: weighted_sum(folders, [0.5, 0.5])[Q]}) < 1e-6
        assert certificate["layers"][f"base_model.model.model.{Q}"]["relative_error"] < 1e-6
    wide = adapter(tmp_path / "wide", 0, change=spoil(Q_A, np.full((4, 32), 1e200)))
    with pytest.raises(AdapterError, match="'.*q_proj' holds numbers too large"):
        merge_adapters([wide, wide], tmp_path / "out2")
    assert not (tmp_path / "out2").exists()


def test_a_merge_that_fails_leaves_the_last_one_as_it_was(tmp_path):
    folders = [adapter(tmp_path / str(i), i) for i in range(2)]
    merge_adapters(folders, tmp_path / "out")
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    # The last layer is broken: the first is written by the time it is found.
    spoiled = adapter(tmp_path / "2", 2, change=spoil(Q_A, np.full((4, 32), np.nan, np.float32)))
    with pytest.raises(AdapterError, match="NaN"):
        merge_adapters([*folders, spoiled], tmp_path / "out")
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0", "1", "2", "out"]
    with pytest.raises(AdapterError, match="one of the adapters"):
        merge_adapters(folders, folders[1])
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError):
        merge_adapters(folders, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_every_other_kind_of_adapter_that_peft_has_is_refused_by_name(tmp_path):
    """From plain peft's own registry: a kind that it gains is refused as well."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    kinds = [kind for kind in PEFT_TYPE_TO_CONFIG_MAPPING if kind.value != "LORA"]
    assert len(kinds) > 30
    for kind in kinds:
        folder = adapter(tmp_path / kind.value, 0, {"peft_type": kind.value})
        with pytest.raises(AdapterError, match=f"adapter_config.json: peft_type: {kind.value} adapters are not LoRA"):
            merge_adapters([folder], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_field_of_pefts_lora_config_is_known():
    """A field that peft gains is looked at before a merge believes it harmless."""
    from peft import LoraConfig

    fields = set(LoraConfig(target_modules=["q_proj"]).to_dict())
    assert fields <= KNOWN | set(MORE), fields - KNOWN - set(MORE)


def test_people_who_name_one_base_differently_can_say_so(tmp_path):
    paths = ("/home/a/llama", "/home/b/models/llama")
    folders = [adapter(tmp_path / str(i), i, {"base_model_name_or_path": path}) for i, path in enumerate(paths)]
    certificate = merge_adapters(folders, tmp_path / "out", same_base=True)
    assert error(deltas(tmp_path / "out"), weighted_sum(folders, [0.5, 0.5])) < 1e-6
    assert certificate["configs"]["different"]["base_model_name_or_path"] == list(paths)
    # Fingerprints of the base's weights are believed, not words.
    known = [adapter(tmp_path / k, i, metadata={"format": "pt", "base_identity": k * 64}) for i, k in enumerate("ab")]
    with pytest.raises(AdapterError, match="trained on another base"):
        merge_adapters(known, tmp_path / "out2", same_base=True)


def test_a_rank_that_no_layer_can_have_is_refused(tmp_path):
    folders = [adapter(tmp_path / str(i), i) for i in range(2)]
    with pytest.raises(AdapterError, match="rank 100000 is more than any of these layers can have; 8 is exact"):
        merge_adapters(folders, tmp_path / "out", rank=100_000)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_merge_that_is_stopped_leaves_nothing(tmp_path, sign):
    def widen(tensors):
        rng = np.random.default_rng(len(tensors))
        for i in range(60):
            for factor, shape in (("A", (4, 1024)), ("B", (1024, 4))):
                tensors[name(f"layers.{i}.self_attn.k_proj", factor)] = rng.normal(size=shape).astype(np.float32)

    folders = [adapter(tmp_path / str(i), i, change=widen) for i in range(3)]
    command = [sys.executable, SCRIPT, "--models", *folders, "--output", tmp_path / "out", "--strategy", "ties", "--threads", "1"]
    wait = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}  # a shell in the background ignores it
    merging = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **wait)
    try:
        end = time.monotonic() + 60
        while not list(tmp_path.glob(".out.*")) and time.monotonic() < end:
            time.sleep(0.01)
        assert merging.poll() is None
        merging.send_signal(sign)
        merging.communicate(timeout=60)
    finally:
        merging.kill()
    assert merging.returncode in (143, 130)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0", "1", "2"]


def test_initialisations_that_leave_the_base_alone_are_merged(tmp_path):
    for init in ("gaussian", "orthogonal", "eva", "mica", False):
        folder = adapter(tmp_path / str(init), 0, {"init_lora_weights": init, "velora_config": {"scale": 1.0}})
        merge_adapters([folder, folder], tmp_path / "out")
        assert error(deltas(tmp_path / "out"), deltas(folder)) < 1e-6
        # Plain peft must not initialise the merged factors the same way again.
        assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["init_lora_weights"] is True


def whole(value, key="base_model.model.lm_head.weight", dtype=np.float32):
    return lambda t: t.update({key: np.full((3, 5), value, dtype)})


def test_weights_trained_whole_are_averaged_and_frozen_ones_must_be_the_same(tmp_path):
    config = {"modules_to_save": ["lm_head"]}
    folders = [adapter(tmp_path / str(i), i, config, whole(v)) for i, v in enumerate((1.0, 4.0))]
    certificate = merge_adapters(folders, tmp_path / "out", "weighted", weights=[1, 2])
    got = Adapter(tmp_path / "out")
    assert np.allclose(got.array("base_model.model.lm_head.weight"), 3) and got.config["modules_to_save"] == ["lm_head"]
    assert certificate["whole_weights"]["base_model.model.lm_head.weight"]["made"] == "weighted mean"
    with pytest.raises(AdapterError, match="lm_head.weight' holds NaN"):
        merge_adapters([folders[0], adapter(tmp_path / "nan", 2, config, whole(np.nan))], tmp_path / "out2")
    # The embedding that peft stores beside an adapter on it is the base's own.
    key = "base_model.model.model.embed_tokens.base_layer.weight"
    same = [adapter(tmp_path / f"e{i}", i, change=whole(1.5, key, np.float16)) for i in range(2)]
    certificate = merge_adapters(same, tmp_path / "out3")
    assert certificate["whole_weights"][key] == {"made": "the same in all", "rounding_error": 0.0}
    other = adapter(tmp_path / "e2", 2, change=whole(1.25, key, np.float16))
    with pytest.raises(AdapterError, match="embed_tokens.base_layer.weight' of the base is not the one"):
        merge_adapters([*same, other], tmp_path / "out4")
    assert sorted(deltas(tmp_path / "out3")) == sorted(SHAPES)
