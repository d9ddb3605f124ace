"""How long hosts may go on handing in results without hearing from the controller, and why that makes it safe to start a job again."""

_MARGIN = 45.0
_SHORT = 60.0


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
