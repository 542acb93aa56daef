"""Where a run's numbers come from: its data, its date, and the versions that made them."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Self

from flwr_krum.lines import FileError
from simulations.run.folder import replace_file

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
        replace_file(folder / ORIGIN_FILE, (json.dumps(asdict(self), indent=2) + "\n").encode())

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read a run's origin; None where it was not written down.

        Raises
        ------
        FileError
            If the file is damaged.
        """
        path = folder / ORIGIN_FILE
        try:
            origin = cls(**json.loads(path.read_bytes()))
            return replace(origin, versions=dict(origin.versions))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, RecursionError) as error:
            raise FileError(f"{path}: not a run's origin: {error}") from error


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
