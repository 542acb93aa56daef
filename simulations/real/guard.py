"""``python -m simulations.real.guard HOME FOLDER...``: what is left to do when an owner is gone.

It ends the processes of the federation with that home, and clears its folders: the keys in them
must not outlive it.

See `simulations.real.processes.guarded`.
"""

import sys
from pathlib import Path

from simulations.real.processes import clear, end_all

if __name__ == "__main__":
    sys.stdin.buffer.read()  # returns when whoever holds the other end of the pipe is gone
    home, *folders = map(Path, sys.argv[1:])
    try:
        end_all(home)
    finally:
        for folder in folders:
            clear(folder)
