"""Promotion: the choice by validation alone, and slots that end in the bits of a training that was never interrupted."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from trainyard.config import ConfigError, list_ensembles, list_runs, list_slots, load_config
from trainyard.config.jobs import run_settings, task_settings
from trainyard.data.generate.trajectories import KINDS, generate
from trainyard.data.pack import PackWriter
from trainyard.report.evaluate import EvaluationError
from trainyard.report.promotion import Candidate, decide

HOME = Path(__file__).parents[2]
SCRIPTS = HOME / "workflow" / "scripts"
TOY = {
    "promote": {"keep": 1, "from_epochs": 2, "to_epochs": 4, "models": ["i3d", "transformer"]},
    "models": {name: {"lr": 1e-3, "options": {"feature_dim": 16, "width": 4}} for name in ("i3d", "transformer")},
}


def config_of(**overlay):
    return load_config({"suites": ["mono_to_3d"], "mono_to_3d": {"promote": None, **overlay}}, HOME)


def write_pack(folder: Path, split: str, samples: int, seed: int) -> None:
    source = folder / f"{split}-files"
    generate(source, samples=samples, cameras=1, frames=4, size=8, seed=seed)
    with PackWriter(folder / f"{split}.safetensors", {"format": "video", "classes": sorted(KINDS)}) as writer:
        for i, line in enumerate((source / "labels.csv").read_text().split()[1:]):
            name, kind = line.split(",")
            with np.load(source / name) as sample:
                fixed = {"video": sample["video"], "positions": sample["positions"], "label": np.int64(sorted(KINDS).index(kind))}
            writer.add(fixed, {"id": f"{split}/{name}", "group": f"{split}{i}"})


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with packs, two short runs in it, and the decision between them."""
    folder = tmp_path_factory.mktemp("promotion")
    for seed, (split, samples) in enumerate({"train": 24, "validation": 24, "test": 8}.items()):
        write_pack(folder, split, samples, seed)
    config = config_of(**TOY)
    shorts = {r.name: run_settings(config, r) for r in list_runs(config) if r.name in TOY["models"]}
    for name, settings in shorts.items():
        train(folder, name, "--settings", json.dumps(settings), "--code", f"{name}-code")
    call("decide_promotion", "--settings", json.dumps({"suite": "mono_to_3d", **TOY["promote"]}),
         "--predictions", *(folder / "runs" / n / "predictions.parquet" for n in shorts),
         "--train-json", *(folder / "runs" / n / "train.json" for n in shorts), "--output", folder / "promotion.json")  # fmt: skip
    return folder


def call(script: str, *args) -> str:
    done = subprocess.run([sys.executable, SCRIPTS / f"{script}.py", *map(str, args)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def train(folder: Path, run: str, *args) -> str:
    packs = [word for split in ("train", "validation", "test") for word in (f"--{split}", folder / f"{split}.safetensors")]
    return call("train_model", *packs, "--checkpoints", folder / "checkpoints" / run, "--output", folder / "runs" / run, "--device", "cpu",
                *args)  # fmt: skip


CODES = json.dumps({"i3d": "i3d-code", "transformer": "transformer-code"})


def test_a_slot_ends_in_the_bits_of_an_uninterrupted_run(place):
    decision = json.loads((place / "promotion.json").read_text())
    source = decision["slots"]["promoted-1"]["run"]
    said = train(place, "promoted-1", "--promotion", place / "promotion.json", "--slot", "promoted-1", "--code", CODES)
    assert f"goes on with {source}, from epoch 2 to 4" in said and "epoch 3/4" in said and "epoch 2/4" not in said, said
    config = config_of(models={source: {**TOY["models"][source], "epochs": 4}})
    whole = next(run_settings(config, r) for r in list_runs(config) if r.name == source)
    said = train(place, "whole", "--settings", json.dumps(whole), "--code", "another")
    assert "epoch 1/4" in said
    # Checkpoints of another fingerprint are not touched; without any the result is the same.
    other = json.dumps({"i3d": "edited", "transformer": "edited"})
    said = train(place, "promoted-2", "--promotion", place / "promotion.json", "--slot", "promoted-1", "--code", other)
    assert f"no checkpoint of {source} with this fingerprint" in said and "epoch 1/4" in said, said
    for name in ("model.safetensors", "history.csv", "predictions.parquet"):
        expected = (place / "runs" / "whole" / name).read_bytes()
        assert (place / "runs" / "promoted-1" / name).read_bytes() == expected, name
        assert (place / "runs" / "promoted-2" / name).read_bytes() == expected, name
    info = json.loads((place / "runs" / "promoted-1" / "train.json").read_text())
    short = json.loads((place / "runs" / source / "train.json").read_text())
    assert info["meta_info"]["settings"]["run"] == "promoted-1" and info["meta_info"]["settings"]["model"] == source
    assert "goes on with" in info["meta_info"]["report"]["promoted"]
    assert info["train_info"]["epochs"] == 4 and info["train_info"]["steps"] == 2 * short["train_info"]["steps"]


def test_a_slot_that_is_trained_again_only_reads_its_last_checkpoint(place):
    args = ("--promotion", place / "promotion.json", "--slot", "promoted-1", "--code", CODES)
    train(place, "promoted-1", *args)
    again = train(place, "promoted-1", *args)
    assert "epoch " not in again.replace("epoch 5", "").replace("from epoch", ""), again


def candidates(place: Path, change=lambda table: table) -> list[Candidate]:
    found = []
    for name in TOY["models"]:
        table = change(pq.ParquetFile(place / "runs" / name / "predictions.parquet").read())
        path = place / f"{name}-changed.parquet"
        pq.write_table(table, path)
        found.append(Candidate(name, path, json.loads((place / "runs" / name / "train.json").read_text())))
    return found


SHORT = {"suite": "mono_to_3d", "keep": 1, "from_epochs": 2, "to_epochs": 4}


def test_test_predictions_take_no_part_in_the_choice(place):
    def scrambled(table):
        test = pc.equal(table["split"], "test").to_numpy(zero_copy_only=False)
        column = [[float("nan")] * 4 if t else p for t, p in zip(test, table["prediction"].to_pylist())]
        return table.set_column(table.column_names.index("prediction"), "prediction", pa.array(column, pa.list_(pa.float32())))

    def without(table):
        return table.filter(pc.equal(table["split"], "validation"))

    def validation_scrambled(table):
        return table.set_column(
            table.column_names.index("split"), "split", pa.array(["test" if s == "validation" else s for s in table["split"].to_pylist()])
        )

    plain = decide(SHORT, candidates(place))
    assert plain == json.loads((place / "promotion.json").read_text()) and plain["split"] == "validation"
    assert decide(SHORT, candidates(place, scrambled)) == plain == decide(SHORT, candidates(place, without))
    with pytest.raises(EvaluationError, match="no validation predictions"):
        decide(SHORT, candidates(place, validation_scrambled))


def made(tmp_path: Path, rights: dict[str, list[int]]) -> list[Candidate]:
    """Runs of which each is right (1) or wrong (0) on the items of the list; every item a group."""
    found = []
    for name, right in rights.items():
        n = len(right)
        rows = {
            "item": [f"i{k}" for k in range(n)], "id": [f"i{k}" for k in range(n)], "group": [f"g{k}" for k in range(n)],
            "split": ["validation"] * n, "part": ["trajectory"] * n, "kind": ["class"] * n,
            "target": [[0.0]] * n, "prediction": [[0.9, 0.1] if r else [0.1, 0.9] for r in right],
            "nll": [0.0] * n, "correct": right, "count": [1] * n,
        }  # fmt: skip
        order = np.random.default_rng(len(found)).permutation(n)  # nobody says that runs write their rows in one order
        table = pa.table({k: pa.array([v[i] for i in order]) for k, v in rows.items()})
        pq.write_table(table, tmp_path / f"{name}.parquet")
        settings = {"run": name, "architecture": "i3d", "epochs": 2}
        found.append(Candidate(name, tmp_path / f"{name}.parquet", {"meta_info": {"settings": settings}}))
    return found


def test_the_chance_that_the_best_was_dropped(tmp_path):
    rng = np.random.default_rng(0)
    good, same = (rng.random(200) < 0.9).astype(int).tolist(), (rng.random(200) < 0.9).astype(int).tolist()
    bad = (rng.random(200) < 0.4).astype(int).tolist()
    clear = decide(SHORT, made(tmp_path, {"bad": bad, "good": good}))
    assert clear["slots"]["promoted-1"]["run"] == "good" and clear["chance_dropped_best"] < 0.001
    unsure = decide(SHORT, made(tmp_path, {"a": good, "b": same, "bad": bad}))
    assert 0.01 < unsure["chance_dropped_best"] < 0.5 and "the chance that the best was dropped" in unsure["notes"][0]
    both = decide({**SHORT, "keep": 2}, made(tmp_path, {"a": good, "b": same, "bad": bad}))
    assert both["chance_dropped_best"] < 0.001 and {s["run"] for s in both["slots"].values()} == {"a", "b"}
    twins = decide(SHORT, made(tmp_path, {"a": good, "b": good}))
    assert twins["chance_dropped_best"] == pytest.approx(0.5) and twins["slots"]["promoted-1"]["run"] == "a"
    # Paired: a run that is right wherever another is, and once more, is nearly always ahead, though their intervals overlap.
    more = [1] * 200
    paired = decide(SHORT, made(tmp_path, {"a": [1] * 190 + [0] * 10, "b": more}))
    low = {r["run"]: r for r in paired["candidates"]}
    assert paired["chance_dropped_best"] < 0.001 and low["b"]["against"]["ci_low"] > 0


def test_runs_that_cannot_be_compared_are_refused(tmp_path):
    short, long = made(tmp_path, {"a": [1] * 5}), made(tmp_path, {"b": [1] * 6})
    with pytest.raises(EvaluationError, match="different validation items"):
        decide(SHORT, short + long)
    with pytest.raises(EvaluationError, match="trained for 2 epochs, not for 3"):
        decide({**SHORT, "from_epochs": 3}, short)


def names(config) -> list[str]:
    return [r.name for r in list_slots(config)]


def test_the_config_gives_slots_and_the_long_schedule_from_the_start():
    config = config_of(**TOY)
    settings = {r.name: run_settings(config, r) for r in list_runs(config)}
    assert names(config) == ["promoted-1"]
    assert [(settings[n]["epochs"], settings[n]["schedule_epochs"]) for n in ("i3d", "transformer")] == [(2, 4), (2, 4)]
    assert settings["slowfast"]["schedule_epochs"] == settings["slowfast"]["epochs"]
    task = task_settings(config, list_slots(config)[0])
    assert (task["run"], task["model"]) == ("promoted-1", "promoted-1") and "epochs" not in task
    full = load_config({"suites": ["mono_to_3d"], "scale": "full"}, HOME)
    assert full.suites["mono_to_3d"].promote.model_dump(exclude={"models"}) == {"keep": 2, "from_epochs": 10, "to_epochs": 50}
    quick = load_config({"suites": ["mono_to_3d"], "scale": "full", "epochs": 1}, HOME)
    assert (quick.suites["mono_to_3d"].promote.from_epochs, quick.suites["mono_to_3d"].promote.to_epochs) == (1, 5)
    assert names(load_config({"suites": ["mono_to_3d"], "scale": "full", "only": "i3d"}, HOME)) == []
    assert names(load_config({"suites": ["mono_to_3d"], "scale": "full", "exclude": "promoted-2"}, HOME)) == ["promoted-1"]


@pytest.mark.parametrize(
    ("overlay", "words"),
    [
        ({"promote": {"keep": 4, "from_epochs": 1, "to_epochs": 2}}, "keep: 4 of 4 runs leaves nothing to choose"),
        ({"promote": {"keep": 1, "from_epochs": 3, "to_epochs": 3}}, "to_epochs .3. must be more than from_epochs"),
        ({"promote": {"keep": 1, "from_epochs": 1, "to_epochs": 3, "models": ["i3dd"]}}, "did you mean 'i3d'"),
        ({"promote": {"keep": 1, "from_epochs": 1, "to_epochs": 3}, "datasets": {"trajectories": {"folds": 3}}}, "folds or shards"),
        ({"models": {"promoted-1": {"architecture": "i3d", "dataset": "trajectories"}}}, "name of a promoted run"),
        ({"ensemble": ["i3dd"]}, "did you mean 'i3d'"),
    ],
)
def test_mistakes_in_promotion_and_ensembles_are_named(overlay, words):
    with pytest.raises(ConfigError, match=words):
        list_ensembles(config_of(**overlay))


def test_which_runs_an_ensemble_takes():
    def members(**overlay):
        return {e.name: [r.name for r in e.of] for e in list_ensembles(load_config(overlay, HOME))}

    four = ["i3d", "slowfast", "transformer", "magvit"]
    assert members(suites=["mono_to_3d"], mono_to_3d={"promote": None, "ensemble": True}) == {"ensemble": four}
    assert members(suites=["mono_to_3d"], mono_to_3d={"ensemble": ["promoted-*"]}, scale="full") == {
        "ensemble": ["promoted-1", "promoted-2"]
    }
    assert members(suites=["kmidi"], kmidi={"ensemble": True}) == {}, "no two answer the same question with probabilities"
    seeds = members(suites=["aimedres"], aimedres={"ensemble": True}, only=["als", "ensemble*"], seeds=2, folds=2)
    assert seeds == {f"ensemble-fold{k}": [f"als-fold{k}-seed1", f"als-fold{k}-seed2"] for k in (1, 2)}
    with pytest.raises(ConfigError, match="different questions"):
        members(suites=["kmidi"], kmidi={"ensemble": ["emotion_recognizer", "dynamics_engine"]})
    with pytest.raises(ConfigError, match="no probabilities"):
        members(suites=["kmidi"], kmidi={"ensemble": ["melody_transformer", "harmony_predictor"]})


def test_the_report_shows_who_went_on_and_how_sure_that_is(place, tmp_path):
    from trainyard.report.collect import collect
    from trainyard.report.page import render

    folder = tmp_path / "results" / "mono_to_3d"
    (folder / "runs").mkdir(parents=True)
    (folder / "promotion.json").write_bytes((place / "promotion.json").read_bytes())
    decision = json.loads((place / "promotion.json").read_text())
    report = collect(tmp_path / "results")
    (suite,) = report.suites
    assert [(c.run, c.slot) for c in suite.promotion.candidates] == [
        (r["run"], "promoted-1" if r["kept"] else "") for r in decision["candidates"]
    ]
    page = render(report)
    assert "Which runs went on" in page and "promoted-1" in page and "the chance that the best was dropped" in page
    (folder / "promotion.json").write_text('{"candidates": 3, "slots": []}')
    assert render(collect(tmp_path / "results"))
