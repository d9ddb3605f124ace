"""How long a host is waited for, how often it is asked, and what is not counted against it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snakemake_executor_plugin_ssh.admission import Need
from snakemake_executor_plugin_ssh.attempts import NoJournal
from snakemake_executor_plugin_ssh.book import Book
from snakemake_executor_plugin_ssh.lease import lease_seconds, limit_seconds, poll_seconds
from snakemake_executor_plugin_ssh.openssh import silence_seconds
from snakemake_executor_plugin_ssh.reasons import none_usable
from snakemake_interface_common.exceptions import WorkflowError


@given(st.floats(10, 1e6), st.floats(1, 600), st.booleans())
def test_a_lease_is_extended_well_before_it_ends(limit, wanted, shared):
    """Else what hands in results would be stopped, and stand still for ever, though the host answers."""
    lease = lease_seconds(limit, wanted, shared)
    assert 0 < poll_seconds(wanted, lease) <= min(wanted, lease / 4)
    assert poll_seconds(wanted, None) == wanted


@pytest.mark.parametrize("minutes", [-1, 0.001, 0.16, float("nan")])
def test_limits_that_tell_nothing_are_refused(minutes):
    with pytest.raises(WorkflowError, match="--ssh-unreachable-minutes .* 0 to wait for hosts without end"):
        limit_seconds(minutes)


def test_limits():
    assert limit_seconds(0) is None and limit_seconds(0.2) == pytest.approx(12)
    assert silence_seconds(4) == 4
    with pytest.raises(WorkflowError, match="--ssh-silence-seconds 3"):
        silence_seconds(3)


def test_a_controller_that_stood_still_gives_no_host_up_for_it():
    book = Book(["a", "b"], 100.0, NoJournal(), 0.0)
    book.opened("a", {"cores": 1, "mem_mb": 1000, "gpu": 0}, 0.0)
    book.submit("job", Need(host="a"))
    book.lost("a", "cut")
    book.tick(50.0)
    book.stood_still(500.0)
    book.tick(560.0)
    assert not book.events, "60 of its seconds have passed"
    book.tick(601.0)
    assert [(event.kind, event.job) for event in book.events][:1] == [("lost", "job")]


def test_no_host_is_usable_when_all_are_refused():
    book = Book(["a", "b"], 100.0, NoJournal(), 0.0)
    book.refused("a", "its Python is another")
    assert none_usable(book.hosts.values()) == ""
    book.refused("b", "its key is wrong")
    assert none_usable(book.hosts.values()) == "no host can be used:\n  a: its Python is another\n  b: its key is wrong"
