"""The folder, to look at its report: PYTHONPATH=tests/unit python -m report_fixture FOLDER"""

import sys
from pathlib import Path

from report_fixture import write_results

write_results(Path(sys.argv[1]))
