"""The page as a file: it fetches nothing, its markup is sound, colours are not needed to read it, and it stays small."""

from report_fixture import Tree, metric
from trainyard.report.collect import collect
from trainyard.report.page import render


def test_nothing_can_be_fetched(page, text):
    for name, attributes in page.tags:
        assert name not in {"iframe", "object", "embed", "base", "form", "audio", "video", "img"}, name
        for key in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            value = attributes.get(key)
            assert value is None or value.startswith(("#", "data:,")), (name, key, value)
        assert not [k for k in attributes if k.startswith("on")] and "style" not in attributes, (name, attributes)
    assert "url(" not in text and "@import" not in text and "fetch(" not in text
    policy = next(a["content"] for n, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_markup_is_sound(page):
    assert page.unbalanced == [] and page.open == []
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert not {a["href"][1:] for n, a in page.tags if n == "a" and a.get("href", "").startswith("#")} - set(ids)


def test_readable_without_sight_of_colour(page):
    assert all(a.get("aria-label") or a.get("aria-hidden") for n, a in page.tags if n == "svg" and "floor-plan" not in a.get("class", ""))
    assert all("scope" in a for n, a in page.tags if n == "th")
    assert len([a for n, a in page.tags if n == "svg"]) > 30


def test_small_enough(text):
    assert len(text.encode()) < 1_000_000


def test_hundreds_of_runs(tmp_path):
    t = Tree(tmp_path)
    for m in range(25):
        for fold in range(1, 11):
            t.run(
                "aimedres", f"m{m}", f"m{m}-fold{fold}", "tabular_mlp", [metric("x", "class", "auc", 0.7 + m / 125, 0.5, 0.75)], fold=fold
            )
    t.finish("done")
    found = collect(tmp_path)
    assert len(found.runs) == 250 and len(found.models) == 25
    assert len(render(found).encode()) < 2_000_000
