"""``python -m simulations``."""

from simulations.show.loading import run_app

run_app("simulations.cli")
