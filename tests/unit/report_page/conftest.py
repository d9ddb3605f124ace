"""The five suites of `report_fixture`, their report, and its page."""

from pathlib import Path

import pytest
from report_fixture import write_results
from report_fixture.page import Page
from trainyard.report.collect import collect
from trainyard.report.page import render


@pytest.fixture(scope="session")
def results(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("results")
    write_results(root)
    return root


@pytest.fixture(scope="session")
def report(results):
    return collect(results)


@pytest.fixture(scope="session")
def text(report) -> str:
    return render(report)


@pytest.fixture(scope="session")
def page(text) -> Page:
    return Page(text)
