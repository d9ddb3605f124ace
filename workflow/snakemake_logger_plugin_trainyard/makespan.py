"""How long jobs take together: each starts as soon as its inputs and cores are there."""

import heapq

from snakemake_logger_plugin_trainyard.jobs import Job

SIMULATED = 3000  # jobs; above, the sum over the cores is as good


def makespan(jobs: list[Job], seconds: dict[int, float], cores: int, elsewhere: bool = False) -> float:
    """Wall time if jobs start as soon as their inputs and cores are there; longest first. Running ones hold their cores already.
    `elsewhere`: each job counts as one of `cores`."""
    cores = max(1, cores)
    width = {job.jobid: 1 if elsewhere else min(job.threads, cores) for job in jobs}
    if len(jobs) > SIMULATED:
        work = sum(seconds[j.jobid] * width[j.jobid] for j in jobs) / cores
        return max([work, *seconds.values()])
    ids = {job.jobid for job in jobs}
    needs = {job.jobid: {d for d in job.depends if d in ids} for job in jobs}
    wanted_by: dict[int, list[int]] = {}
    for jobid, others in needs.items():
        for other in others:
            wanted_by.setdefault(other, []).append(jobid)
    ready = [(job.state != "running", -seconds[job.jobid], job.jobid) for job in jobs if not needs[job.jobid]]
    heapq.heapify(ready)
    running: list[tuple[float, int]] = []
    now, free = 0.0, cores
    while ready or running:
        later = []
        while ready:
            entry = heapq.heappop(ready)
            threads = width[entry[2]]
            if threads <= free:
                free -= threads
                heapq.heappush(running, (now + seconds[entry[2]], entry[2]))
            else:
                later.append(entry)
        for entry in later:
            heapq.heappush(ready, entry)
        if not running:
            break
        now, jobid = heapq.heappop(running)
        free += width[jobid]
        for other in wanted_by.get(jobid, []):
            needs[other].discard(jobid)
            if not needs[other]:
                heapq.heappush(ready, (True, -seconds[other], other))
    return now
