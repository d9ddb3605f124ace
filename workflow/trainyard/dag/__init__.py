"""What the rules ask of the configuration. Static, and free of heavy imports."""

from trainyard.dag.files import Files, chat_files
from trainyard.dag.jobs import Jobs, one_of, set_shell_environment
from trainyard.dag.params import Params

__all__ = ["Files", "Jobs", "Params", "chat_files", "one_of", "set_shell_environment"]
