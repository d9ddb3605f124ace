"""The command that accepts a merge: limits one after the other, a chain that ends with best, and what is said when nothing passes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_bases import chat_pack, make_base, new_lora
from trainyard.lora.merge import merge_adapters
from trainyard.report.loose import Loose
from trainyard.report.page import merge_view
from trainyard.report.read_merges import read_merges

SCRIPT = Path(__file__).parents[2] / "workflow" / "scripts" / "validate_merge.py"
CHAIN = ("average", "ties", "best")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """A base, two adapters that say something, their merges, and rows: as a merge rule leaves them."""
    place = tmp_path_factory.mktemp("chain")
    base, pack = make_base(place / "base", "llama"), chat_pack(place, rows=12)
    folders = []
    for seed in range(2):
        folders.append(place / f"shard{seed + 1}")
        new_lora(base, pack, seed).write(str(folders[-1]))
    for name in CHAIN:
        merge_adapters(folders, place / "merged" / "m" / name, name, losses=[1.0, 2.0] if name == "best" else None)
    return place, base, pack, folders


def run(shards, **limits):
    """accepted.json of one call."""
    place, base, pack, folders = shards
    acceptance = {"max_loss": 1000, "min_valid_json": None, "max_seconds": 600, **limits}
    merge = {"acceptance": acceptance, "prompts": ["a house with 3 rooms", "a very " * 200 + "long wish"]}
    settings = {"suite": "s", "model": "m", "run": "m", "options": {"max_length": 128, "generate": 2}, "merge": merge}
    out = place / "merged" / "m"
    merged = [f"{name}={out / name}" for name in CHAIN]
    command = [
        sys.executable, SCRIPT, "--settings", json.dumps(settings), "--base-model", base, "--shards", *folders, "--merged", *merged,
        "--validation", pack.path, "--test", pack.path, "--output", out / "accepted.json", "--predictions", out / "predictions.parquet",
        "--evaluation", out / "evaluation.json", "--device", "cpu",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "accepted.json").read_text()), done.stdout


def shown(shards):
    """What the report makes of it."""
    place = shards[0]
    return merge_view(read_merges(Loose(place), "s", place, [])[0])


def test_another_base_of_the_same_shape_is_refused(shards, tmp_path):
    """It would load, and every figure would be of a pair that nobody trained."""
    place, _, pack, folders = shards
    out = place / "merged" / "m"
    command = [
        sys.executable, SCRIPT, "--settings", '{"suite": "s", "model": "m", "run": "m"}', "--shards", *folders, "--merged", out / "average",
        "--base-model", make_base(tmp_path / "other", "llama", initializer_range=0.1), "--validation", pack.path, "--test", pack.path,
        "--output", tmp_path / "a.json", "--predictions", tmp_path / "p.parquet", "--evaluation", tmp_path / "e.json", "--device", "cpu",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and "shard1/adapter_model.safetensors: trained on another base than" in done.stderr
    assert not list(tmp_path.glob("*.json")) and done.stderr.count("\n") == 1


@pytest.mark.parametrize("merged", ["shard1=m", "base=m", "a=m a=n"])
def test_two_of_one_name_are_refused(tmp_path, merged):
    """The answers of one would stand for both."""
    given = [
        "--settings",
        '{"suite": "s", "model": "m", "run": "m"}',
        "--base-model",
        "b",
        "--shards",
        "runs/shard1",
        "--merged",
        *merged.split(),
    ]
    files = [word for name in ("validation", "test", "output", "predictions", "evaluation") for word in (f"--{name}", str(tmp_path / name))]
    done = subprocess.run([sys.executable, SCRIPT, *given, *files], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and f"two of base, shards and merges are called '{merged.split('=')[0]}'" in done.stderr


def test_the_first_that_passes_stands_and_is_held_against_its_shards(shards):
    found, said = run(shards)
    assert found["accepted"] == found["shown"] == "average" and "accepted: average" in said
    assert [row["name"] for row in found["against"]] == ["base", "shard1", "shard2", "mean of the shards"]
    losses = {row["name"]: row["figures"]["answer_loss"] for row in found["candidates"] if row["figures"]}
    for row in found["against"][:3]:
        assert row["difference"] == pytest.approx(losses[row["name"]] - losses["average"], abs=2e-5)
        assert row["low"] <= row["difference"] <= row["high"] and row["groups"] == 12
    # Prompts of one's own come first; one that is longer than the base takes gets no answer, and costs nobody theirs.
    own, long, *rows = found["samples"]
    assert own["prompt"] == "a house with 3 rooms" and own["answer"] and long["answer"] == "" and len(rows) == 2
    view = shown(shards)
    assert [x["sample"].prompt for x in view["samples"]][0] == own["prompt"]
    assert view["merge"].accepted == "average" and len(view["rivals"]) == 4


def test_a_limit_that_a_merge_breaks_sends_the_chain_on_and_best_is_its_end(shards):
    size = (shards[0] / "merged" / "m" / "average" / "adapter_model.safetensors").stat().st_size / 1e6
    # best is one adapter, so its file is half as large as the exact mean of two.
    found, _ = run(shards, max_megabytes=0.75 * size)
    states = {row["name"]: row["state"] for row in found["candidates"] if row["role"] == "merge"}
    assert states == {"average": "refused", "ties": "refused", "best": "passed"} and found["accepted"] == "best"
    assert "average: megabytes" in found["reason"] and "ties: megabytes" in found["reason"]


def test_when_nothing_passes_that_is_said_plainly_and_nothing_is_accepted(shards):
    found, said = run(shards, max_loss=1e-6)
    assert found["accepted"] is None and found["folder"] is None and "accepted: none" in said
    assert [r["state"] for r in found["candidates"] if r["role"] == "merge"] == ["refused"] * 3
    assert found["shown"] in CHAIN and f"the figures shown are those of {found['shown']}" in found["reason"]
    evaluation = json.loads((shards[0] / "merged" / "m" / "evaluation.json").read_text())
    assert evaluation["meta_info"]["accepted"] is None
    merge = shown(shards)["merge"]
    assert merge.accepted == "" and merge.decided and not any(c.accepted for c in merge.candidates)
