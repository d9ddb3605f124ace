"""The house rules that can be counted."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2]
LIBRARY = HOME / "workflow" / "trainyard"
FLOORS = {
    "config": 0, "data": 1, "host": 1, "machines": 1, "baselines": 2, "models": 2, "train": 3, "lora": 4, "dag": 4, "report": 5, "plan": 5,
    "cli": 6,
}  # fmt: skip
LIGHT = ["index_dataset", "split_dataset", "evaluate_model", "merge_adapters", "compare_models", "build_report", "fit_baselines"]


def test_snakefile_and_rules_are_short_and_have_no_run_blocks():
    assert len((HOME / "Snakefile").read_text().splitlines()) < 60
    for path in (HOME / "rules").glob("*.smk"):
        text = path.read_text()
        assert len(text.splitlines()) < 200, path
        assert not re.search(r"^\s+run:\s*$", text, re.M), path


@pytest.mark.parametrize("name", LIGHT)
def test_light_commands_start_without_torch(name):
    """Their whole import closure: loads the modules that the command's functions import, then looks."""
    source = (HOME / "workflow" / "scripts" / f"{name}.py").read_text()
    modules = {
        node.module
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("trainyard")
    }
    program = (
        f"import importlib, sys\nfor m in {sorted(modules)!r}: importlib.import_module(m)\n"
        "print(sorted(m for m in sys.modules if m in ('torch', 'transformers', 'peft')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_imports_go_one_way():
    for path in LIBRARY.rglob("*.py"):
        floor = path.relative_to(LIBRARY).parts[0]
        if floor not in FLOORS:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            names += [a.name for a in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                parts = name.split(".")
                if parts[0] == "trainyard" and len(parts) > 1 and parts[1] in FLOORS:
                    assert FLOORS[parts[1]] <= FLOORS[floor], f"{path.relative_to(HOME)} imports {name}"


def test_the_logger_plugin_stands_on_data_and_config_alone():
    for path in (LIBRARY.parent / "snakemake_logger_plugin_trainyard").rglob("*.py"):
        rooms = set(re.findall(r"^\s*(?:from|import) trainyard\.(\w+)", path.read_text(), re.M))
        assert rooms <= {"config", "data"}, path


def test_no_batch_norm():
    for path in LIBRARY.rglob("*.py"):
        assert not re.search(r"nn\.(Sync)?BatchNorm|F\.batch_norm", path.read_text()), path
