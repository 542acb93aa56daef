"""``python -m benchmarks``."""

from simulations.show.loading import run_app

run_app("benchmarks.cli")
