"""Aggregation rules: pure functions of n client updates, without Flower."""

from collections.abc import Mapping

from flwr_krum.kernel.updates import ClientUpdates
from flwr_krum.rules.average import Average
from flwr_krum.rules.krum import Krum, MultiKrum, OneMinusPKrum, inverse_square_root
from flwr_krum.rules.medoid import Medoid
from flwr_krum.rules.rule import Aggregate, Rule

__all__ = [
    "RULES",
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

RULES: Mapping[str, type[Rule]] = {
    "average": Average,
    "krum": Krum,
    "multi-krum": MultiKrum,
    "medoid": Medoid,
    "1-p-krum": OneMinusPKrum,
}
"""Rules by the name that they are written with, see `flwr_krum.rules.written`; whatever lists
rules reads this, in this order."""
