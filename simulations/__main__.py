"""``python -m simulations``."""

from simulations.cli import app

app()
