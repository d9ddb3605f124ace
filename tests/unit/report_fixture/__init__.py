"""A small results folder as the workflow leaves it: five suites, with folds, seeds, shards, merges, refused files and failures."""

from pathlib import Path

from report_fixture.houses import PLAN, houses
from report_fixture.metric import metric
from report_fixture.suites import medicine, music, performances, video
from report_fixture.tree import Tree

__all__ = ["PLAN", "Tree", "metric", "write_results"]


def write_results(root: Path, seed: int = 0) -> Tree:
    """The whole folder. groove_predictor and parkinsons-fold3 failed; parkinsons is not shown to beat its simple baseline."""
    t = Tree(root, seed)
    music(t)
    performances(t)
    video(t)
    houses(t)
    medicine(t)
    t.finish()
    return t
