"""``python -m flwr_krum.report_page``."""

import sys

from flwr_krum.report_page.command import main

if __name__ == "__main__":
    sys.exit(main())
