"""How long hosts may go on handing in results without hearing from the controller, and why that makes it safe to start a job again."""

from snakemake_interface_common.exceptions import WorkflowError

_MARGIN = 45.0
_SHORT = 60.0
_SHORTEST_LIMIT = 10.0


def limit_seconds(minutes: float) -> float | None:
    """Seconds without contact after which a host's jobs are lost; None: never. WorkflowError: too few to tell a gone host by."""
    limit = minutes * 60
    if limit == 0:
        return None
    if not limit >= _SHORTEST_LIMIT:
        raise WorkflowError(
            f"--ssh-unreachable-minutes {minutes:g} is {limit:g} seconds: every hiccup of a link would lose jobs. Give at least "
            f"{_SHORTEST_LIMIT / 60:.2g} (the default is 15), or 0 to wait for hosts without end"
        )
    return limit


def lease_seconds(limit: float | None, poll: float, shared: bool) -> float | None:
    """Seconds of a host's lease. `limit`: seconds without contact after which the controller starts a host's jobs elsewhere (None: never,
    then the lease has no end); `poll`: seconds between contacts; `shared`: outputs are written to a shared filesystem.

    A lease is counted from a clock reading of the host that the controller has seen. The last one that it saw came with the last answer,
    so the lease is over at most this long after it, and the limit is longer by a margin for the supervisor's step, for clocks that run
    at slightly different speeds, and for bytes under way. Holding what hands in results costs nothing while the host cannot be reached,
    so without a shared filesystem it is short; with one the whole job is held, so it is as long as is safe."""
    if limit is None:
        return None
    longest = max(limit * 0.5, limit * 0.99 - _MARGIN)
    return longest if shared else min(longest, max(_SHORT, 4 * poll))


def poll_seconds(wanted: float, lease: float | None) -> float:
    """Seconds between contacts: as wanted, and often enough that a lease never ends between two of them."""
    return wanted if lease is None else min(wanted, lease / 4)
