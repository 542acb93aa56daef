"""``python -m simulations.real.guard HOME``: ends a federation when its owner is gone.

See `simulations.real.processes.guarded`.
"""

import sys
from pathlib import Path

from simulations.real.processes import end_all

if __name__ == "__main__":
    sys.stdin.buffer.read()  # returns when whoever holds the other end of the pipe is gone
    end_all(Path(sys.argv[1]))
