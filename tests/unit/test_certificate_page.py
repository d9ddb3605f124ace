"""The page of a merge's certificate: it says what the figures say, and opens without anything else."""

import html
import re

import pytest
from adapters import adapter
from trainyard.lora.merge import merge_adapters
from trainyard.report.certificate_facts import certificate_facts
from trainyard.report.certificate_page import render_certificate


@pytest.fixture
def folders(tmp_path):
    return [adapter(tmp_path / f"shard<{i}>", i, {"lora_dropout": i / 10}) for i in range(3)]


def text_of(page):
    page = page.replace("<wbr>", "")
    return " ".join(html.unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.S)).split())


def test_it_says_what_went_in_and_how_exact_the_result_is(folders, tmp_path):
    certificate = merge_adapters(folders, tmp_path / "out", "weighted", losses=[0.3, 0.2, 0.4])
    page = render_certificate(certificate)
    text = text_of(page)
    assert "weighted of 3 adapters" in text and "Exact: the result is the weighted mean" in text
    for entry in certificate["inputs"]:
        assert entry["sha256"] in text and entry["folder"] in text
    assert "lora_dropout" in text and "0.4615" in text
    assert all(name in text for name in certificate["layers"]) and page.count("<svg") == 2
    # File names are people's; nothing of them is markup, and nothing is fetched.
    assert "shard<0>" not in page and "<script" not in page and not re.search(r'(src|href)="(?!data:)', page)


@pytest.mark.parametrize(
    "how, options, words",
    [
        ("average", {"rank": 3}, "The best approximation of rank 3"),
        ("ties", {"rank": 6, "density": 0.3}, "What ties makes is not of low rank"),
    ],
)
def test_it_does_not_call_an_approximation_exact(folders, tmp_path, how, options, words):
    certificate = merge_adapters(folders, tmp_path / "out", how, **options)
    text = text_of(render_certificate(certificate))
    assert words in text and "Exact:" not in text
    facts = dict(certificate_facts(certificate))
    assert facts["rank"] == str(options["rank"]) and "exact" not in facts["relative error against the true mean"]
    assert ("relative error against what the strategy made" in facts) == (how == "ties")


def test_one_adapter_has_nothing_to_agree_with(folders, tmp_path):
    page = render_certificate(merge_adapters(folders[:1], tmp_path / "out"))
    assert "average of 1 adapter:" in text_of(page) and "<svg" not in page and "All settings are the same." in page


def test_a_broken_certificate_costs_the_report_nothing():
    broken = {"strategy": 3, "cosine": [[1, "x"], 2], "rank_for": 4, "layers": [], "weights": "no", "inputs": [None], "configs": None}
    assert dict(certificate_facts(broken)) == {}
