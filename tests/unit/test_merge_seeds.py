"""Shards trained with several seeds: one merge a seed, gathered over the seeds; and the name that an adapter has for its base."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from report_fixture import Tree, metric
from tiny_bases import chat_pack, make_base
from trainyard.config import ConfigError
from trainyard.config.architectures import LoraOptions
from trainyard.dag import Files, Jobs, Params
from trainyard.lora.adapter import Adapter
from trainyard.lora.identity import base_identity
from trainyard.lora.model import LoraChat
from trainyard.report.collect import collect
from trainyard.report.gather import merge_of, merged_run
from trainyard.report.intervals import t_interval
from trainyard.report.page import render
from trainyard.train.job import run_fingerprint

HOME = Path(__file__).parents[2]
SEEDS = {"suites": ["housebrain"], "housebrain": {"models": {"housebrain": {"seeds": 2}}}}


def test_every_seed_has_a_merge_of_its_own_shards():
    jobs = Jobs(SEEDS, HOME)
    files, params = Files(jobs), Params(jobs, Files(jobs))
    assert jobs.merges_of("housebrain") == ["housebrain-seed1", "housebrain-seed2"]
    for seed, name in enumerate(jobs.merge_names, 1):
        of = SimpleNamespace(suite="housebrain", merge=name)
        assert files.shard_folders(of) == [f"results/housebrain/runs/housebrain-shard{i:02d}-seed{seed}" for i in range(1, 7)]
        assert files.merged_folders(of)["average"] == f"results/housebrain/merged/{name}/average"
        settings = json.loads(params.merge(of))
        assert (settings["run"], settings["model"], settings["shard"]) == (f"housebrain-merged-seed{seed}", "housebrain-merged", 0)
        assert settings["seed"] == jobs.model("housebrain", "housebrain").seed + seed - 1
    wanted = [e for e in jobs.expected("housebrain") if "merged" in e["run"]]
    assert wanted == [{"run": f"housebrain-merged-seed{s}", "model": "housebrain-merged"} for s in (1, 2)]
    metrics = files.suite_metrics(SimpleNamespace(suite="housebrain"))
    assert [m for m in metrics if "/merged/" in m] == [f"results/housebrain/merged/{n}/metrics.json" for n in jobs.merge_names]


def test_given_weights_are_those_of_the_shards_whatever_the_seeds():
    """A number for each of shards × seeds was asked for, which the merge of one seed's shards then refused."""
    model = {"seeds": 2, "merge": {"weights": [1, 2, 3, 4, 5, 6]}}
    jobs = Jobs({"suites": ["housebrain"], "housebrain": {"models": {"housebrain": model}}}, HOME)
    files = Files(jobs)
    of = SimpleNamespace(suite="housebrain", merge="housebrain-seed2", strategy="weighted")
    flags = Params(jobs, files).merge_flags(of)
    assert "--weights 1 2 3 4 5 6" in flags and len(files.shard_folders(of)) == 6
    model["merge"]["weights"] *= 2
    with pytest.raises(ConfigError, match="12 for 6 shards"):
        Jobs({"suites": ["housebrain"], "housebrain": {"models": {"housebrain": model}}}, HOME)


def test_without_seeds_the_merge_is_called_as_its_model_and_half_the_shards_are_not_merged():
    plain = {"suites": ["housebrain"]}
    assert Jobs(plain, HOME).merge_names == ["housebrain"]
    assert Jobs({**plain, "only": ["housebrain-shard0[1-5]"]}, HOME).merge_names == []
    # Of two seeds, the one that is whole.
    assert Jobs({**SEEDS, "exclude": ["housebrain-shard03-seed1"]}, HOME).merge_names == ["housebrain-seed2"]


@pytest.mark.parametrize("folder", ["hb", "hb-seed2", "hb-fold1-seed3", "merged-model-seed1"])
def test_folders_and_runs_of_merges_name_each_other(folder):
    assert merge_of(merged_run(folder)) == folder != merged_run(folder)
    assert merge_of(folder) == ""


GAPS = {"base": (1.7, 1.9, 1.8), "hb-shard01": (0.012, 0.010, 0.014), "mean of the shards": (0.02, -0.01, 0.002)}
LOSSES = (0.30, 0.34, 0.32)


def merged_seeds(folder: Path, seeds: int) -> str:
    t = Tree(folder)
    for seed in range(1, seeds + 1):
        rivals = [
            {
                "name": f"{name}-seed{seed}" if "shard0" in name else name,
                "difference": gaps[seed - 1],
                "low": -1.0,
                "high": 2.0,
                "groups": 9,
            }
            for name, gaps in GAPS.items()
        ]
        chosen = {"name": "average", "role": "merge", "figures": {"loss": LOSSES[seed - 1]}, "state": "passed", "reason": ""}
        accepted = {"accepted": "average", "shown": "average", "reason": "", "candidates": [chosen], "against": rivals}
        t.json(f"housebrain/merged/hb-seed{seed}/accepted.json", accepted)
        entry = metric("answer", "tokens", "nll", LOSSES[seed - 1], 3.0, 1.5, 500, 9)
        name = f"hb-merged-seed{seed}"
        t.json(f"housebrain/merged/hb-seed{seed}/metrics.json",
               {"suite": "housebrain", "run": name, "model": "hb-merged", "state": "done", "metrics": [entry], "run_info": {},
                "train_info": {}, "meta_info": {"settings": {"fold": 0}}, "headline": None, "notes": []})  # fmt: skip
    report = collect(folder)
    (model,) = [m for m in report.models if m.name == "hb-merged"]
    assert len(model.runs) == seeds
    assert model.headline.value == pytest.approx(np.mean(LOSSES[:seeds]))
    return render(report)


def test_over_seeds_the_report_shows_means_with_intervals_paired_by_seed(tmp_path):
    text = merged_seeds(tmp_path, 3)
    assert "hb over 3 seeds" in text
    part = text[text.index("hb over 3 seeds") : text.index("Merge of hb-seed1")]
    low, high = t_interval(LOSSES)
    assert f"0.320 [{low:.3f}, {high:.3f}]" in part
    rows = {name: next(r for r in part.split("<tr>") if f">{name}<" in r.replace("<wbr>", "")) for name in GAPS}
    low, high = t_interval(GAPS["hb-shard01"])
    assert f"+0.0120 [{low:.4f}, {high:.4f}]" in rows["hb-shard01"] and "surely better" in rows["hb-shard01"]
    assert "+0.0120, +0.0100, +0.0140" in rows["hb-shard01"]
    assert "not surely better or worse" in rows["mean of the shards"]
    assert "surely better" in rows["base"]
    assert "Other seeds of training may differ" not in text


def test_one_seed_has_no_interval_over_seeds(tmp_path):
    text = merged_seeds(tmp_path, 1)
    assert "over 1 seeds" not in text and "Other seeds of training may differ" in text


def test_an_adapter_calls_its_base_as_it_is_configured_not_as_the_copy_that_it_was_trained_on(tmp_path):
    base, pack = make_base(tmp_path / "copy", "llama"), chat_pack(tmp_path)
    paths = {"base_model": base, "base_name": "results/housebrain/base/housebrain"}
    LoraChat.from_pack(LoraOptions(r=4, alpha=8), pack, np.arange(len(pack)), paths).write(str(tmp_path))
    adapter = Adapter(tmp_path)
    assert adapter.config["base_model_name_or_path"] == "results/housebrain/base/housebrain"
    assert adapter.base_identity == base_identity(base) != ""
    # A name changes nothing that is learned: checkpoints of a run under a storage go on without one.
    packs = {"train": str(pack.path)}
    named, plain = (run_fingerprint({}, packs, p, "code") for p in (paths, {"base_model": base}))
    assert named == plain != run_fingerprint({}, packs, {"base_model": str(tmp_path)}, "code")


def test_a_training_is_told_the_configured_name_where_the_base_was_brought_from_a_storage():
    jobs = Jobs({"suites": ["housebrain"]}, HOME)
    params, of = Params(jobs, Files(jobs)), SimpleNamespace(suite="housebrain", run="housebrain-shard01")
    here = Files(jobs).base(of)
    there = [f".snakemake/storage/s3/yard/{path}" for path in here]
    assert params.trained_base_flags(of, SimpleNamespace(base=here)) == "--base-model results/housebrain/base/housebrain"
    assert params.trained_base_flags(of, SimpleNamespace(base=there)) == (
        "--base-model .snakemake/storage/s3/yard/results/housebrain/base/housebrain --base-name results/housebrain/base/housebrain"
    )
    own = Jobs({"suites": ["housebrain"], "housebrain": {"models": {"housebrain": {"base_model": "org/base 7b"}}}}, HOME)
    assert Params(own, Files(own)).trained_base_flags(of, SimpleNamespace(base=[])) == "--base-model 'org/base 7b'"
