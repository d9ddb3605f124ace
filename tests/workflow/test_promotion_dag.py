"""Promotion through the DAG: short runs, decision, slot; and what a changed learning rate makes again."""

import json

from workflow_runs import snakemake, started, table

TOY = {"feature_dim": 16, "width": 4}
SUITE = {
    "promote": {"keep": 1, "from_epochs": 1, "to_epochs": 2, "models": ["i3d", "slowfast"]},
    "ensemble": ["i3d", "slowfast"],
    "datasets": {"trajectories": {
        "generate": {"samples": 120, "cameras": 1, "frames": 4, "size": 16}, "features": {"cameras": 1, "frames": 4, "size": 16},
    }},
    "models": {name: {"lr": 1e-3, "options": TOY} for name in ("i3d", "slowfast")},
}  # fmt: skip
CONFIG = ("suites=mono_to_3d", "exclude=transformer,magvit")


def test_the_best_goes_on_and_stays_when_another_changes(tmp_path):
    (tmp_path / "toy.yaml").write_text(json.dumps({"mono_to_3d": SUITE}))
    done = snakemake(tmp_path, "--configfile", str(tmp_path / "toy.yaml"), config=CONFIG)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    decision = json.loads((tmp_path / "results/mono_to_3d/promotion.json").read_text())
    kept = decision["slots"]["promoted-1"]["run"]
    (dropped,) = {"i3d", "slowfast"} - {kept}
    log = tmp_path / "logs/train_promoted/mono_to_3d/promoted-1.log"
    assert f"goes on with {kept}" in log.read_text() and "epoch 2/2" in log.read_text() and "epoch 1/2" not in log.read_text()
    rows = table(tmp_path / "results/mono_to_3d/comparison.csv")
    assert {"i3d", "slowfast", "promoted-1", "ensemble"} == {r["model"] for r in rows}
    model = tmp_path / "results/mono_to_3d/runs/promoted-1/model.safetensors"
    before = model.read_bytes()
    SUITE["models"][dropped]["lr"] = 9e-4
    (tmp_path / "changed.yaml").write_text(json.dumps({"mono_to_3d": SUITE}))
    again = snakemake(tmp_path, "--configfile", str(tmp_path / "changed.yaml"), config=CONFIG)
    assert again.returncode == 0, again.stdout[-3000:] + again.stderr[-3000:]
    trained = [job for job in started(again) if job.startswith("train_model ")]
    assert trained == [f"train_model mono_to_3d/{dropped}"], "the other short run stays"
    if json.loads((tmp_path / "results/mono_to_3d/promotion.json").read_text())["slots"]["promoted-1"]["run"] == kept:
        assert "epoch 2/2" not in log.read_text() and model.read_bytes() == before, "nothing is trained where nothing changed"
    nothing = snakemake(tmp_path, "--configfile", str(tmp_path / "changed.yaml"), config=CONFIG)
    assert "nothing to" in (nothing.stdout + nothing.stderr).lower()
