"""What the rules ask of the configuration. Static, and free of heavy imports."""

from typing import get_args

from trainyard.config.merging import MergeStrategy
from trainyard.dag.asked import asked, same, state_parameters
from trainyard.dag.files import Files, chat_files
from trainyard.dag.follow import Follow
from trainyard.dag.jobs import Jobs, gpus_taken, set_shell_environment
from trainyard.dag.params import Params
from trainyard.dag.pattern import one_of
from trainyard.dag.tables import fresh_comparisons
from trainyard.dag.unfinished import mark_partial, mark_what_follows

MERGE_STRATEGIES = get_args(MergeStrategy)

__all__ = [
    "MERGE_STRATEGIES", "Files", "Follow", "Jobs", "Params", "asked", "chat_files", "fresh_comparisons", "gpus_taken",
    "mark_partial", "mark_what_follows", "one_of", "same", "set_shell_environment", "state_parameters",
]  # fmt: skip
