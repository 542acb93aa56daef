"""Aggregation rules: pure functions of n client updates, without Flower."""

from flwr_krum.kernel.updates import ClientUpdates
from flwr_krum.rules.average import Average
from flwr_krum.rules.krum import Krum, MultiKrum, OneMinusPKrum, inverse_square_root
from flwr_krum.rules.medoid import Medoid
from flwr_krum.rules.rule import Aggregate, Rule

__all__ = [
    "Aggregate",
    "Average",
    "ClientUpdates",
    "Krum",
    "Medoid",
    "MultiKrum",
    "OneMinusPKrum",
    "Rule",
    "inverse_square_root",
]
