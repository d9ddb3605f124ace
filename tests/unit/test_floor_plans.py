"""House plans: the generated ones are right, each fault fails its own check, people are told which, and a drawing."""

import json

import pytest
from floor_plans import changed, plan, plan_pack
from trainyard.data.generate.plans import generate
from trainyard.lora.plan_check import check_answer, geometry_faults
from trainyard.lora.plan_words import explain_answer, explain_unasked
from trainyard.report.floor_plan import floor_plan_svg, plan_facts


def test_generated_plans_are_right_and_repeatable(tmp_path):
    folder, again = tmp_path / "once", tmp_path / "again"
    pack = plan_pack(folder)
    for answer in pack.texts("answer"):
        assert check_answer(answer, answer) == dict.fromkeys(("valid_json", "schema", "geometry", "brief", "cost"), True)
    generate(again, 3, builder="base", rows=120)
    assert (again / "plans.jsonl").read_bytes() == (folder / "plans.jsonl").read_bytes()
    assert len(set(pack.texts("prompt"))) > 60 and len({*zip(pack.texts("prompt"), pack.texts("answer"))}) == len(pack) == 120
    houses = [json.loads(line) for line in (folder / "plans.jsonl").read_text().splitlines()]
    for row in houses:  # a house is its site, rooms and finish: the group that must not be split
        site = json.loads(row["answer"])["site"]
        assert f"{site[0]}x{site[1]}" in row["house"]


@pytest.mark.parametrize(
    "wrong, failing",
    [
        ({}, set()),
        ({"rooms__1__box": [1, 0, 3, 3], "rooms__1__area": 9}, {"geometry"}),  # overlaps the bath
        ({"rooms__1__box": [2, 0, 3, 2]}, {"geometry"}),  # leaves the site
        ({"rooms__1__area": 7}, {"geometry"}),
        ({"rooms__0__door": "bed1"}, {"geometry"}),  # nobody gets in
        ({"rooms__2__door": "attic"}, {"geometry"}),
        ({"rooms__2__name": "study"}, {"brief"}),
        ({"cost": 33}, {"cost"}),
        ({"fits": False}, {"cost"}),
        ({"budget": 30, "fits": False}, {"cost"}),  # not the budget that was asked for
        ({"fits": 1}, {"schema", "geometry", "brief", "cost"}),
        ({"rooms": []}, {"schema", "geometry", "brief", "cost"}),
        ({"area": 16.0}, {"schema", "geometry", "brief", "cost"}),
    ],
)
def test_each_fault_of_a_plan_fails_its_own_check(wrong, failing):
    checks = check_answer(json.dumps(changed(**wrong)), json.dumps(plan()))
    assert {name for name, passed in checks.items() if not passed} == failing


@pytest.mark.parametrize(
    "wrong, rule, why",
    [
        ({}, None, ""),
        ({"rooms__1__box": [1, 0, 3, 3], "rooms__1__area": 9}, "no rooms overlap", "bath overlaps bed1"),
        ({"rooms__1__box": [2, 0, 3, 2]}, "rooms fit the site", "bed1 lies outside the site"),
        ({"rooms__1__area": 7}, "areas add up", "bed1 is 6 m², not 7"),
        ({"rooms__0__door": "bed1"}, "every room can be reached", "bath cannot be reached, bed1 cannot be reached"),
        ({"rooms__2__name": "study"}, "what was asked for", "bath is missing, study was not asked for"),
        ({"cost": 33}, "cost", "cost 33, not 32"),
        ({"fits": False}, "cost", "a cost of 32 is within 40"),
        ({"budget": 30, "fits": False}, "cost", "budget 30, not 40"),
        ({"area": 16.0}, "schema", "a value is of the wrong kind"),
    ],
)
def test_people_are_told_which_rule_a_plan_breaks_and_how(wrong, rule, why):
    answer, reference = json.dumps(changed(**wrong)), json.dumps(plan())
    words, checks = explain_answer(answer, reference), check_answer(answer, reference)
    broken = {name: said for name, said in words.items() if said != "yes"}
    assert why in broken.get(rule, "") and broken.get(rule, "no: ").startswith("no: ")
    # Words and figures never disagree.
    geometry = ("rooms fit the site", "no rooms overlap", "areas add up", "every room can be reached")
    parts = {"valid_json": ["valid JSON"], "schema": ["schema"], "geometry": geometry, "brief": ["what was asked for"], "cost": ["cost"]}
    assert checks == {part: all(words.get(name) == "yes" for name in names) for part, names in parts.items()}
    assert plan_facts(plan()) == [("site", "4 × 4 m"), ("area", "16 m²"), ("cost", "32 at 2 a m²"), ("budget", "40: 8 to spare")]


def test_a_plan_that_nobody_asked_for_is_held_to_its_own_rate_and_budget():
    assert set(explain_unasked(json.dumps(plan())).values()) == {"yes"}
    assert "what was asked for" not in explain_unasked(json.dumps(plan()))
    assert explain_unasked(json.dumps(changed(rate=3)))["cost follows from its rate and budget"] == "no: cost 32, not 48"
    assert explain_unasked(json.dumps(changed(rooms__1__area=7)))["areas add up"].startswith("no: bed1")
    assert explain_unasked("no plan")["valid JSON"].startswith("no: ") and explain_unasked("[1]") == {"valid JSON": "yes"}


def test_people_are_told_what_is_no_plan_at_all():
    reference = json.dumps(plan())
    assert explain_answer("{", "plain words") == {}
    assert explain_answer(reference[:-1], reference)["valid JSON"].startswith("no: Expecting")
    assert explain_answer("{" * 100_000, reference)["valid JSON"].startswith("no: ")
    assert explain_answer("3", reference) == {"valid JSON": "no: neither an object nor a list"}
    assert "not rooms" in explain_answer('{"rooms": []}', reference)["schema"]
    assert explain_answer("[1]", '{"a": 1}') == {"valid JSON": "yes"}


def test_other_answers_are_asked_for_json_only_where_the_reference_is():
    assert check_answer("{}", "plain words") == {}
    assert check_answer("words", '{"a": 1}') == {"valid_json": False}
    assert check_answer("[2]", '{"a": 1}') == {"valid_json": True}
    assert check_answer("{" * 100_000, json.dumps(plan()))["valid_json"] is False
    assert geometry_faults(changed(rooms__1__box=[1, 0, 3, 3])) != []


def test_a_plan_is_drawn_and_its_text_cannot_break_out():
    evil = plan()
    evil["rooms"][1]["name"] = evil["rooms"][1]["name"] + "<script>"
    drawing = floor_plan_svg(evil)
    assert "<script" not in drawing and "bed1&lt;script&gt;" in drawing
    assert drawing.count('class="door"') == 3 and "6 m²" in drawing
    import xml.etree.ElementTree as ElementTree

    ElementTree.fromstring(drawing)
    with pytest.raises(ValueError, match="not a plan"):
        floor_plan_svg({"rooms": [{}]})
