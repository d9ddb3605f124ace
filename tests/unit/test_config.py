"""The configuration: every mistake ends in one message that names file, key and the nearest valid name."""

import subprocess
import sys
from pathlib import Path

import pytest
from trainyard.config import ConfigError, list_runs, list_scripts, load_config
from trainyard.config.jobs import run_settings, typed_options
from trainyard.config.validation import read_settings

HOME = Path(__file__).parents[2]
SUITES = ("kmidi", "crescendai", "mono_to_3d", "housebrain", "aimedres")


def load(**config):
    return load_config(config, HOME)


@pytest.mark.parametrize("scale", ["demo", "full"])
@pytest.mark.parametrize("suite", SUITES)
def test_every_suite_loads_at_every_scale(suite, scale, tmp_path):
    extra = {}
    if suite == "housebrain" and scale == "full":
        extra = {"housebrain": {"models": {"housebrain": {"base_model": "some/hub-name"}}}}
    config = load(suites=[suite], scale=scale, **extra)
    assert list_runs(config)


def test_the_full_scale_has_the_numbers_of_the_five_systems():
    kmidi = load(suites=["kmidi"], scale="full").suites["kmidi"].models
    assert {name: m.epochs for name, m in kmidi.items()} == {
        "emotion_recognizer": 50, "dynamics_engine": 30, "harmony_predictor": 30, "melody_transformer": 50, "groove_predictor": 30,
    }  # fmt: skip
    assert {name: m.hours for name, m in kmidi.items()} == {
        "emotion_recognizer": 2, "dynamics_engine": 1, "harmony_predictor": 1, "melody_transformer": 3, "groove_predictor": 1,
    }  # fmt: skip
    video = load(suites=["mono_to_3d"], scale="full").suites["mono_to_3d"]
    assert {name: m.options.feature_dim for name, m in video.models.items()} == {
        "i3d": 1024,
        "slowfast": 1024,
        "transformer": 512,
        "magvit": 1024,
    }
    assert all(
        (m.epochs, m.batch_size, m.lr, m.weight_decay, m.checkpoint.every_epochs) == (10, 16, 1e-3, 1e-4, 2) for m in video.models.values()
    )
    given = {"housebrain": {"models": {"housebrain": {"base_model": "some/hub-name"}}}}
    chat = load(suites=["housebrain"], scale="full", **given).suites["housebrain"].models["housebrain"]
    numbers = (chat.batch_size, chat.accumulate, chat.options.max_length, chat.epochs, chat.lr, chat.options.r)
    assert numbers == (1, 16, 512, 2, 2e-4, 8) and (chat.checkpoint.every_steps, chat.checkpoint.keep) == (100, 10)


@pytest.mark.parametrize(
    "config, words",
    [
        ({"epohcs": 3}, ["epohcs", "did you mean 'epochs'"]),
        ({"suites": ["kmdi"]}, ["kmdi", "did you mean 'kmidi'"]),
        ({"kmidi": {"models": {"emotion_recognizer": {"lrr": 3}}}}, ["config/suites/kmidi.yaml", "models.emotion_recognizer.lrr", "'lr'"]),
        ({"kmidi": {"models": {"emotion_recognizer": {"lr": "fast"}}}}, ["models.emotion_recognizer.lr", "fast"]),
        ({"kmidi": {"models": {"emotion_recognizer": {"lr": -1}}}}, ["models.emotion_recognizer.lr", "greater than 0"]),
        ({"kmidi": {"models": {"emotion_recognizer": {"architecture": "i3dd"}}}}, ["i3dd", "did you mean 'i3d'"]),
        ({"kmidi": {"models": {"emotion_recognizer": {"architecture": "i3d", "options": {}}}}}, ["i3d reads video", "holds audio"]),
        ({"kmidi": {"models": {"emotion_recognizer": {"dataset": "m4singers"}}}}, ["m4singers", "did you mean 'm4singer'"]),
        ({"kmidi": {"models": {"emotion_recognizer": {"options": {"widht": 3}}}}}, ["options", "widht", "did you mean 'width'"]),
        ({"kmidi": {"datasets": {"m4singer": {"features": {"mel": 3}}}}}, ["features", "'mel'", "did you mean 'mels'"]),
        ({"kmidi": {"datasets": {"m4singer": {"root": "/no/such/place"}}}}, ["kmidi.datasets.m4singer.root", "/no/such/place"]),
        ({"kmidi": {"datasets": {"m4singer": {"group": {"pattern": "("}}}}}, ["group", "regular expression"]),
        ({"kmidi": {"datasets": {"m4singer": {"group": {"pattern": "a"}}}}}, ["group", "parentheses"]),
        ({"kmidi": {"datasets": {"m4singer": {"group": {"field": "a", "column": "b"}}}}}, ["group", "exactly one of"]),
        ({"kmidi": 3}, ["kmidi", "int"]),
        ({"only": "melodi_transformer"}, ["only", "did you mean 'melody_transformer'"]),
        ({"folds": 1}, ["folds", "greater than or equal to 2"]),
    ],
)  # fmt: skip
def test_mistakes_are_named(config, words):
    with pytest.raises(ConfigError) as caught:
        list_runs(load_config({"suites": ["kmidi"], **config}, HOME))
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_overrides_reach_every_model_and_only_what_they_should():
    config = load(suites=["kmidi", "aimedres"], epochs=2, batch_size=4, folds=3, seeds=2, subset_size=50)
    for suite in config.suites.values():
        assert all((m.epochs, m.batch_size, m.seeds) == (2, 4, 2) for m in suite.models.values())
        assert all(d.subset_size == 50 for d in suite.datasets.values())
    names = [r.name for r in list_runs(config)]
    assert "parkinsons-fold3-seed2" in names and "emotion_recognizer-seed1" in names and not any("fold4" in n for n in names)


def test_only_and_exclude():
    names = lambda **config: [r.path for r in list_runs(load(**config))]  # noqa: E731
    assert names(suites=["kmidi"], only="melody_transformer") == ["kmidi/melody_transformer"]
    assert "kmidi/melody_transformer" not in names(suites=["kmidi"], exclude="melody_*")
    assert names(suites=["aimedres"], only="als", exclude="als-fold1") == [f"aimedres/als-fold{i}" for i in range(2, 6)]
    scripts = {s.name for s in list_scripts(load(suites=["aimedres"], exclude=["train_model"]))}
    assert scripts == {"train_baseline_models"}


def test_which_scripts_are_found(tmp_path):
    for name in ("train_a.py", "train_cardiovascular_b.py", "deep/train_cardiovascular_c.py", "deep/train_a.py", "note.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")

    def found(**discover):
        config = load(suites=["aimedres"], aimedres={"discover": {"root": str(tmp_path), **discover}})
        return [s.name for s in list_scripts(config)]

    assert found() == ["train_a", "train_cardiovascular_b"]
    assert found(include=["train_*cardiovascular*.py"]) == ["train_cardiovascular_b"]
    assert found(exclude=["train_a"]) == found(exclude=["train_a.py"]) == ["train_cardiovascular_b"]
    assert found(include=["**/*cardiovascular*.py"]) == ["train_cardiovascular_c", "train_cardiovascular_b"]
    with pytest.raises(ConfigError, match="two scripts are called 'train_a'.*deep"):
        found(include=["**/train_*.py"])
    (tmp_path / "train_{x}.py").write_text("")
    with pytest.raises(ConfigError, match="train_{x}.py.*braces"):
        found()
    with pytest.raises(ConfigError, match=r"no file in .* fits .include train_x.*exclude y"):
        found(include=["train_x*.py"], exclude=["y"])


def test_own_data_replace_the_generated_ones(tmp_path):
    (tmp_path / "x.wav").write_bytes(b"")
    own = {"root": str(tmp_path), "glob": "*.wav", "label": {"pattern": "^.{5}(.)"}}
    dataset = load(suites=["kmidi"], kmidi={"datasets": {"m4singer": own}}).suites["kmidi"].datasets["m4singer"]
    assert dataset.root == str(tmp_path) and dataset.generator is None and dataset.group is None and dataset.label.pattern == "^.{5}(.)"


def test_machine_matters_stay_out_of_what_a_run_is():
    def settings(**model):
        config = load(suites=["kmidi"], kmidi={"models": {"melody_transformer": model}})
        return run_settings(config, next(r for r in list_runs(config) if r.model == "melody_transformer"))

    assert settings() == settings(threads=4, mem_mb=9000, gpu=1, runtime=5)
    assert settings() != settings(lr=0.5)
    assert typed_options(settings()).context > 0


def test_settings_flag(tmp_path):
    file = tmp_path / "a.json"
    file.write_text('{"a": 1}')
    assert read_settings('{"a": 1}') == read_settings(f"@{file}") == {"a": 1}
    for bad in ("{", "[1]", "@/no/such/file"):
        with pytest.raises(ConfigError, match="--settings"):
            read_settings(bad)


def test_generated_documents_match_the_code():
    done = subprocess.run([sys.executable, HOME / "workflow/scripts/write_docs.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + "run `make docs`"
