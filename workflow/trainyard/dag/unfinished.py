"""What a call that ends early leaves behind is marked, so that the next call makes it again.

Snakemake asks for a file's sake only: where a report is there, and no newer input, it misses nothing. So a call that was interrupted
would be followed by one with "nothing to do": it has removed the outputs of the trainings that it was at, but the figures and reports
made from earlier ones are still there, and the partial report of its own end is. Snakemake's own mark for outputs of a job that never
ended says of such files that they do not count (`rerun-incomplete` in the profile lets the next call make them again).
"""

import os
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

NOT_READ = "preflight_check"  # what it writes enters no result; a training that only follows it is as good as before


def mark_what_follows(workflow: Any) -> None:
    """To be called before the first job: mark outputs of earlier calls that were made from something which this one makes again.

    The mark of a file goes when its job has ended well.
    """
    todo = set(workflow.dag.needrun_jobs())
    for job in todo:
        follows = any(before in todo and before.rule.name != NOT_READ for before in workflow.dag.dependencies[job])
        if follows and any(file.is_storage or os.path.exists(file) for file in job.output):
            workflow.persistence.started(job)


def mark_partial(workflow: Any, paths: Iterable[str]) -> None:
    """Mark files that were written outside of any job, from what there was, but for those whose own job has nothing left to do."""
    from snakemake.io import IOFile

    todo = set(workflow.dag.needrun_jobs())
    good = {str(file) for job in workflow.dag.jobs if job not in todo for file in job.output}
    workflow.persistence.started(SimpleNamespace(output=[IOFile(path) for path in paths if path not in good]))
