"""Apps of somebody's own, as folders that Flower takes: ``apps/NAME_app.py`` with its settings."""

import shutil
from pathlib import Path

APPS = Path(__file__).parent / "apps"


def own_app(folder, name):
    """Make the folder of an app, and return it."""
    folder.mkdir(parents=True)
    for source in ("pyproject.toml", "hostile.py"):
        shutil.copy(APPS / source, folder)
    shutil.copy(APPS / f"{name}_app.py", folder / "app.py")
    return folder
