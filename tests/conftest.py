import os
from pathlib import Path

import pytest

# Before anything imports Flower: no telemetry, no update check, no installation at run time.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
os.environ["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


@pytest.fixture(scope="session")
def real_data():
    """The folder with the original data files."""
    neighbour = Path(__file__).parents[1] / ".." / "shared" / "data"
    folder = Path(os.environ.get("FLWR_KRUM_DATA", neighbour))
    if not folder.is_dir():
        pytest.skip(f"original data absent: {folder}; set FLWR_KRUM_DATA")
    return folder
