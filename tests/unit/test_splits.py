"""Settings and packs of one training, given by hand: what does not fit is refused with a word, before anything is trained."""

import json
from pathlib import Path

import numpy as np
import pytest
from small_run import SmallRun, job, killed_training
from trainyard.config import ConfigError
from trainyard.config.jobs import read_job
from trainyard.data.pack import PackWriter
from trainyard.train.splits import open_splits

META = {"format": "tabular", "classes": ["no", "yes"], "numeric": ["age"], "categorical": {"sex": ["f", "m"], "arm": ["a"]}}


def pack(path, fold=False, label=(0, 1, 0, 1), **meta):
    with PackWriter(path, {**META, **meta}) as writer:
        for i, value in enumerate(label):
            more = {"fold": np.int16(i % 2 + 1), "inner": np.bool_(i > 1)} if fold else {}
            writer.add({"label": np.int64(value), **more}, {"id": f"s{i}", "group": f"g{i}"})
    return str(path)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"select": "bets"}, "select: Input should be 'best' or 'last'"),
        ({"schedule": "cosin"}, "schedule"),
        ({"epochs": 0}, "epochs: .*greater than or equal to 1"),
        ({"batch_size": 0}, "batch_size"),
        ({"clip": 0}, "clip"),
        ({"schedule_epochs": 3}, r"schedule_epochs \(3\) end before the epochs that are trained \(12\)"),
        ({"shedule_epochs": 20}, "did you mean 'schedule_epochs'"),
        ({"checkpoint": {"keep": 1}}, "checkpoint: every_epochs, every_minutes, every_steps are missing"),
        ({"fold": "1"}, "fold: expected a whole number"),
        ({"format": "audio"}, "tabular_mlp reads tabular, not 'audio'"),
        ({"options": {"widht": 3}}, "did you mean 'width'"),
        ({"architecture": "tabular_mpl"}, "did you mean 'tabular_mlp'"),
        ({"run": ""}, "run: expected a name"),
    ],
)
def test_settings_by_hand_are_checked(changed, words):
    with pytest.raises(ConfigError, match=words):
        read_job(json.dumps(job(**changed)))


def test_settings_by_hand_mean_what_the_workflow_writes():
    told = read_job(json.dumps(job(epochs="12", lr=1, schedule_epochs=None)))
    assert told == job(epochs=12, lr=1.0, schedule_epochs=12) | {"checkpoint": {**job()["checkpoint"], "every_minutes": 0.0}}
    assert read_job(json.dumps(told)) == told


@pytest.mark.parametrize(
    ("second", "fold", "words"),
    [
        ({"classes": ["yes", "no"]}, 0, "its classes are others than those of"),
        ({"categorical": {"sex": ["m", "f"], "arm": ["a"]}}, 0, "its categorical are others"),
        ({"format": "audio"}, 0, "holds audio, and the run reads tabular"),
        ({}, 1, "holds no folds, and the run is of fold 1"),
        ({"fold": True}, 0, "holds 2 folds, all samples; the run's fold must be one of them, not 0"),
        (None, 0, "is given for test and train; without folds"),
    ],
)
def test_packs_that_do_not_belong_together_are_refused(tmp_path, second, fold, words):
    first = pack(tmp_path / "train.safetensors")
    other = first if second is None else pack(tmp_path / "test.safetensors", **second)
    with pytest.raises(ValueError, match=words):
        open_splits({"format": "tabular", "fold": fold}, {"train": first, "test": other})


def test_one_pack_of_all_samples_is_three_splits_with_folds(tmp_path):
    whole = pack(tmp_path / "all.safetensors", fold=True)
    views = open_splits({"format": "tabular", "fold": 1}, dict.fromkeys(("train", "validation", "test"), whole))
    assert {split: view.rows.tolist() for split, view in views.items()} == {"train": [1], "validation": [3], "test": [0, 2]}
    with pytest.raises(ValueError, match="must be one of them, not 3"):
        open_splits({"format": "tabular", "fold": 3}, {"train": whole})


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_split_without_a_label_ends_a_training_before_it_begins(tmp_path, split):
    """A test split that is not predicted would leave a validation figure as the run's headline."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    packs = killed_training.make_packs(tmp_path)
    with safe_open(packs[split], "np") as file:
        tensors, meta = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118 - no mapping
    save_file({**tensors, "label": np.full_like(tensors["label"], -1)}, packs[split], meta)
    run = SmallRun(packs, tmp_path / "run")
    ended = run.call()
    assert ended.returncode == 1 and f"the {split} split of {packs[split]} holds nothing to predict" in ended.stderr
    assert not (run.folder / "out").exists()


@pytest.mark.parametrize(
    ("architecture", "format", "options"),
    [
        ("melody_transformer", "midi", {"heads": 3}),
        ("groove_predictor", "midi", {"heads": 5}),
        ("fusion", "paired", {"heads": 3}),
        ("transformer", "video", {"heads": 5}),
    ],
)
def test_heads_that_do_not_divide_the_width_are_refused(architecture, format, options):
    with pytest.raises(ConfigError, match="must divide"):
        read_job(json.dumps(job(architecture=architecture, format=format, options=options)))


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer.model", "merges.txt", "model.safetensors"])
def test_all_that_a_base_is_read_from_names_its_checkpoints(tmp_path, name):
    """A chat template or vocabulary that changed teaches something else: its checkpoints are not gone on from."""
    from trainyard.train.job import run_fingerprint

    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_text("one")
    before = run_fingerprint({}, {}, {"base_model": str(tmp_path)}, "")
    (tmp_path / name).write_text("two")
    assert run_fingerprint({}, {}, {"base_model": str(tmp_path)}, "") != before


def test_results_that_could_not_be_written_end_a_training_before_it_begins(tmp_path):
    run = SmallRun(killed_training.make_packs(tmp_path), tmp_path / "run")
    (tmp_path / "file").write_text("")
    ended = run.call("--output", str(tmp_path / "file" / "out"))
    assert ended.returncode == 1 and ended.stderr == f"error: {tmp_path / 'file'}: a file is where the results' folder should be\n"
    assert not (run.folder / "checkpoints").exists() or not list((run.folder / "checkpoints").glob("*/step-*"))
    for words in (("--output", ""), ("--checkpoints", "")):
        assert f"argument {words[0]}: is empty" in run.call(*words).stderr
    assert "--device meta: no such device" in run.call("--device", "meta").stderr


def test_an_adapter_without_a_base_is_refused(tmp_path):
    row = json.dumps({"id": "a", "group": "a", "prompt": "p", "answer": "a"}) + "\n"
    packs = {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "validation", "test")}
    for path in packs.values():
        Path(path).write_text(row)
    ended = SmallRun(packs, tmp_path / "run", architecture="lora", format="chat", options={}).call()
    assert ended.returncode == 1 and ended.stderr == "error: an adapter is trained on a base: give --base-model, its folder or hub name\n"
