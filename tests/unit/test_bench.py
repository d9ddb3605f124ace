"""The frame of the benchmarks: what it measures is what happened, and a goal is judged the right way round."""

import importlib.util
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "bench.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["bench"]


def test_peak_memory_and_failures_of_whole_processes(bench):
    small = bench.command([sys.executable, "-S", "-c", "pass"])()
    large = bench.command([sys.executable, "-S", "-c", "x = bytearray(300 << 20)"])()
    assert small.peak < 40 << 20 < 300 << 20 < large.peak and small.seconds > 0
    with pytest.raises(RuntimeError, match="exit 3[\\s\\S]*the reason"):
        bench.command([sys.executable, "-c", "import sys; print('the reason'); sys.exit(3)"])()


def test_rounds_are_interleaved_and_prepared(bench):
    seen = []
    cases = {n: bench.call(lambda n=n: seen.append(n)) for n in "abc"}
    results = bench.measure(cases, rounds=3, prepare=lambda n: seen.append(n.upper()))
    assert "".join(seen) == "AaBbCc" + "BbCcAa" + "CcAaBb"
    assert all(len(runs) == 3 for runs in results.values())


@pytest.mark.parametrize(
    "goal, met", [({"at_most": 2.5}, True), ({"at_most": 1.5}, False), ({"at_least": 0.4}, True), ({"at_least": 1}, False)]
)
def test_goals(bench, capsys, goal, met):
    results = {"slow": [bench.Run(2.0), bench.Run(6.0)], "quick": [bench.Run(1.0), bench.Run(3.0)]}
    assert bench.report("t", results, "quick", [bench.Goal("slow", "quick", **goal)]) is met
    out = capsys.readouterr().out
    assert ("met" in out) is met and ("MISSED" in out) is not met
