"""How the pages of this folder become a site: `make docs`."""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

_told = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

project = "flwr_krum"
version = release = _told["version"]
copyright = "the authors of flwr_krum, Apache-2.0"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "pages"]
exclude_patterns = ["site"]
repository = _told.get("urls", {}).get("Source", "")
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # tables that are made carry their level from page to page
highlight_language = "none"  # blocks without a language are what a terminal says

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings have them
napoleon_google_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["pages.css"]
html_title = f"flwr_krum {release}"
html_show_sphinx = False
