"""What Snakemake says besides events: what a person need not read, and mistakes in plain words."""

import logging
import re

# Said on every run, or told better by our own lines. Anything not listed here is shown.
CHATTER = (
    "Assuming unrestricted shared filesystem",
    "Building DAG of jobs",
    "Using shell:",
    "Select jobs to execute",
    "Workflow has started",
    "Provided ",
    "Rules claiming more threads",
    "Conda environments: ignored",
    "Singularity containers: ignored",
    "Group jobs: inactive",
    "Waiting at most ",
    "Removing output files of failed job",
    "Trying to restart job",
    "Shutting down, this might take",
    "Complete log(s):",
    "Elapsed time:",
    "Reasons:",
    "Some jobs were triggered by provenance",
    "Rules with provenance triggered jobs",
    "This was a dry-run",
    "Touching output file",
    "Write-protecting output file",
    "Removing temporary output",
    "Would remove temporary output",
    "Updating checkpoint dependencies",
    "DAG of jobs will be updated",
    "Storing output in storage",
    "Storing in storage",
    "Finished upload",
    "Retrieving from storage",
    "Retrieving input from storage",
    "Finished retrieval",
    "Removing local copy of storage file",
    "Processed ",
    "Loading trusted IOCache",
    "Nothing to be done",
    "Config file ",
)
# Said about failed jobs, which have their own lines and the table at the end.
TOLD = ("Exiting because a job execution failed", "WorkflowError:\nAt least one job did not complete successfully")


def plain_message(record: logging.LogRecord, verbose: bool = False) -> str | None:
    """What of a record that is no job's event a person should read; None for nothing."""
    text = str(record.msg or "").strip()
    if not text or text == "None":
        return None
    if verbose:
        return text
    if record.levelno < logging.INFO:
        return None
    if record.levelno < logging.WARNING:
        return None if text.startswith(CHATTER) else text
    if text.startswith(TOLD):
        return None
    if record.levelno >= logging.ERROR:
        return plain_error(text, getattr(record, "exception", None))
    return text


def plain_error(text: str, exception: str | None = None) -> str:
    """An error of Snakemake for people: `error: …`, and last where it arose.

    What a Snakefile itself raises as ConfigError or WorkflowError is written for people: its place in the Snakefile is noise.
    """
    head, _, rest = text.partition("\n")
    ours = re.match(r"(?:[\w.]*\.)?(ConfigError|WorkflowError)(?P<rule> in rule \S+)?(?: in file [^\n]*)?:$", head)
    if ours and not ours["rule"] and rest:
        lines = [line for line in rest.splitlines() if line.strip() and not re.match(r'\s+File "[^"]+", line \d+', line)]
        return "error: " + "\n".join(lines)
    if rest.startswith("Error: "):  # LockException and its like say it twice
        return "error: " + rest.removeprefix("Error: ")
    if text.lower().startswith("error"):
        return text
    return f"error: {text}"
