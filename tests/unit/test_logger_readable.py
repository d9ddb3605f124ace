"""Reasons for reruns, as Snakemake words them, in a person's words."""

from hypothesis import given
from hypothesis import strategies as st
from snakemake.persistence import ParamsChange
from snakemake_logger_plugin_trainyard.readable import follows_only, readable_reason, setting_changes


def changed(before: set, now: set) -> str:
    """As Snakemake writes it: the reprs of params that only one side has."""
    change = ParamsChange(only_old={repr(v) for v in before}, only_new={repr(v) for v in now}, files={"x"})
    return f"Params have changed since last execution: {change}"


def test_a_learning_rate_is_named_with_both_values_once():
    old = '{"suite": "kmidi", "lr": 0.001, "options": {"width": 64}}'
    new = '{"suite": "kmidi", "lr": 0.002, "options": {"width": 64}}'
    assert readable_reason(changed({old, 0.001}, {new, 0.002})) == "lr: 0.001 → 0.002"


def test_nested_settings_and_commas_in_text():
    old = '{"note": "a, now: b; Code has", "options": {"width": 64}}'
    new = '{"note": "a, now: b; Code has", "options": {"width": 96, "depth": 2}}'
    assert readable_reason(changed({old}, {new})) == "options.depth: nothing → 2, options.width: 64 → 96"


def test_fingerprints_are_not_shown():
    assert readable_reason(changed({"a" * 16}, {"b" * 16})) == "its code or data changed"
    assert readable_reason(changed({"code=" + "a" * 16}, {"code=" + "b" * 16})) == "code changed"


def test_settings_and_fingerprint_together():
    text = readable_reason(changed({'{"lr": 1}', 1, "a" * 16}, {'{"lr": 2}', 2, "b" * 16}))
    assert text == "lr: 1 → 2, its code or data changed"


def test_many_changes_are_counted():
    old, new = '{"a": 1, "b": 1, "c": 1, "d": 1, "e": 1}', '{"a": 2, "b": 2, "c": 2, "d": 2, "e": 2}'
    assert readable_reason(changed({old}, {new})) == "a: 1 → 2, b: 1 → 2, c: 1 → 2, and 2 more settings"


def test_causes_come_before_consequences():
    why = "Missing output files: results/a/model.safetensors; Input files updated by another job: results/a/train.safetensors"
    assert readable_reason(why) == "missing model.safetensors"
    assert not follows_only(why)
    alone = "Input files updated by another job: results/b/metrics.json, results/a/metrics.json"
    assert readable_reason(alone) == "input made anew: metrics.json"
    assert follows_only(alone)


def test_other_reasons():
    assert readable_reason("Code has changed since last execution") == "the rule's command changed"
    assert readable_reason("Updated input files: data/a.csv") == "input updated: a.csv"
    assert readable_reason("Forced execution") == "forced"
    assert readable_reason("Something new in Snakemake 12") == "Something new in Snakemake 12"
    assert readable_reason("") == ""


def test_unreadable_params_still_say_what_kind():
    assert readable_reason("Params have changed since last execution: <something>") == "settings changed"


@given(st.dictionaries(st.sampled_from(["lr", "epochs", "seed"]), st.floats(0, 10) | st.integers(0, 9) | st.text(max_size=9), min_size=1))
def test_every_changed_key_is_found(settings):
    import json

    other = {key: [value] for key, value in settings.items()}
    names = {name for name, _, _ in setting_changes(changed({json.dumps(settings)}, {json.dumps(other)}))}
    assert names == set(settings)
