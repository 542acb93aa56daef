"""Where a run's numbers come from: its data, its date, and the versions that made them."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Self

ORIGIN_FILE = "origin.json"
PACKAGES = ("flwr-krum", "flwr", "numpy", "torch", "torchvision", "ray")


@dataclass(frozen=True)
class Origin:
    """What is worth knowing of a run besides its configuration.

    Attributes
    ----------
    started : str
        Date and time in UTC.
    data : str
        Where the data came from, in words.
    versions : mapping of name to version
        Python, and what is installed of the packages that compute.
    """

    started: str
    data: str
    versions: Mapping[str, str]

    @classmethod
    def now(cls, data: str) -> Self:
        """Return the origin of a run that starts now, in this process."""
        installed = {name: version for name in PACKAGES if (version := _version(name))}
        started = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        return cls(started, data, {"Python": platform.python_version(), **installed})

    def write(self, folder: Path) -> None:
        """Write the origin into a run folder."""
        (folder / ORIGIN_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read a run's origin; None where it was not written down."""
        path = folder / ORIGIN_FILE
        return cls(**json.loads(path.read_text())) if path.exists() else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
