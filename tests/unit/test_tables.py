"""What a call that ends well shows."""

import os

from trainyard.dag import fresh_comparisons


def test_only_comparisons_of_this_call_are_shown(tmp_path):
    folder = tmp_path / "compare_models"
    folder.mkdir()
    for suite, at in (("old", 1000.0), ("new", 2000.0)):
        (folder / f"{suite}.log").write_text(f"table of {suite}\n")
        os.utime(folder / f"{suite}.log", (at, at))
    assert list(fresh_comparisons(["old", "new", "never"], 1990.0, tmp_path)) == ["\nnew\ntable of new\n"]
