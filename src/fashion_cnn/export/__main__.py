"""`export_run` in a process of its own: its arguments are run, format, output and maybe source."""

import sys
from pathlib import Path

from fashion_cnn.evaluation import load_run_data
from fashion_cnn.export import export_in_process
from fashion_cnn.run import Run

folder, format_name, output, *source = sys.argv[1:]
run = Run(folder)
try:
    export_in_process(run, load_run_data(run, *source), format_name, Path(output))
except (OSError, ValueError) as error:
    sys.exit(" ".join(str(error).split()))
