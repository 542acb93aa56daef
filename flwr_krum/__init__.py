"""Byzantine resilience for Flower: Krum and its kin as drop-in strategies.

``flwr_krum.serverapp.strategy`` has them for the Message API (``aggregate_train``),
``flwr_krum.server.strategy`` for ``aggregate_fit``, ``flwr_krum.rules`` as pure functions.
"""

__version__ = "0.1.0"
"""Of the distribution ``flwr-krum``, as pyproject.toml states it."""
