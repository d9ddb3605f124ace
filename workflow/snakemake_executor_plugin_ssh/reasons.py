"""Why a job can run nowhere, and why none can, in words."""

from collections.abc import Iterable, Mapping

from .admission import Need
from .records import HostState


def why_nowhere(hosts: Mapping[str, HostState], need: Need, now: float, limit: float | None) -> str:
    """What the job asks for, and what each host that it might go to says."""
    asks = f"{need.cores} cores, {need.mem_mb} MB"
    asks += (f", {need.gpu} GPUs" if need.gpu else "") + (f", host {need.host}" if need.host else "")
    if need.host is not None and need.host not in hosts:
        return f"no host can take it (asks for {asks}): {need.host} is not among the hosts {', '.join(sorted(hosts))}"
    said = [_state(host, now, limit) for host in hosts.values() if need.host in (None, host.name)]
    return f"no host can take it (asks for {asks}): " + "; ".join(filter(None, said))


def none_usable(hosts: Iterable[HostState]) -> str:
    """Why no host can be used in this run; empty while one may be."""
    states = list(hosts)
    if any(host.link != "refused" for host in states):
        return ""
    return "\n".join(["no host can be used:", *(f"  {host.name}: {host.reason}" for host in states)])


def _state(host: HostState, now: float, limit: float | None) -> str:
    if host.link == "refused":
        return f"{host.name} cannot be used: {host.reason}"
    if host.gone(now, limit):
        return f"{host.name} was not reached for {now - host.contact:.0f} s: {host.reason}"
    if host.room is not None:
        return f"{host.name} has {host.room.cores} cores, {host.room.mem_mb} MB, {host.room.gpu} GPUs"
    return ""
