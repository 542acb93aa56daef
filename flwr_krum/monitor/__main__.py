"""``python -m flwr_krum.monitor``."""

import sys

from flwr_krum.monitor.command import main

if __name__ == "__main__":
    sys.exit(main())
