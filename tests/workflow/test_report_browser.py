"""The report in a real browser: it renders, says nothing on the console, and asks for nothing outside its file."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from report_fixture import write_results

HOME = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# What the browser looks up for itself at a start, whatever page it shows.
BROWSERS_OWN = {
    "clients2.google.com", "update.googleapis.com", "accounts.google.com", "optimizationguide-pa.googleapis.com", "www.google.com",
}  # fmt: skip
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--virtual-time-budget=3000",
)  # fmt: skip


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_page_renders_quietly_and_asks_for_nothing(tmp_path):
    results = tmp_path / "results"
    write_results(results)
    page = results / "report" / "index.html"
    command = [sys.executable, HOME / "workflow/scripts/build_report.py", "--results", results, "--output", page]
    subprocess.run(command, check=True, capture_output=True)
    net = tmp_path / "net.json"
    browser = [CHROMIUM, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={net}", "--dump-dom", page.as_uri()]
    done = subprocess.run(browser, capture_output=True, text=True, timeout=120)
    assert "melody_transformer" in done.stdout and "<svg" in done.stdout
    assert "CONSOLE" not in done.stderr, done.stderr
    asked = {urlsplit(url).hostname for url in re.findall(r'"url":"((?:https?|wss?)://[^"]*)"', net.read_text())}
    assert asked <= BROWSERS_OWN, "the page asked for something outside its file"
