"""The command `build_report.py`."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "workflow" / "scripts" / "build_report.py"


def test_command_writes_page_and_status_without_torch(results, tmp_path):
    out, status = tmp_path / "a b" / "index.html", tmp_path / "STATUS.md"
    code = (
        "import sys, runpy, os; sys.argv = sys.argv[1:]; exit_ = os._exit\n"
        "heavy = ('torch', 'matplotlib', 'pandas', 'transformers', 'snakemake')\n"
        "def leave(code): print('HEAVY', [m for m in heavy if m in sys.modules]); sys.stdout.flush(); exit_(code)\n"
        "os._exit = leave; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(SCRIPT), "--results", str(results), "--output", str(out), "--status", str(status), "--partial"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "HEAVY []" in done.stdout and "39 of 41 runs finished" in done.stdout
    assert "Partial report" in out.read_text(encoding="utf-8") and "partial" in status.read_text(encoding="utf-8")


def test_command_says_what_is_wrong_in_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--results", str(tmp_path / "no"), "--output", str(tmp_path / "x.html")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "no such folder" in done.stderr and "Traceback" not in done.stderr
