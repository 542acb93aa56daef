"""Aggregation rules: what is made of the geometry of n client updates, without Flower."""

from collections.abc import Mapping

from flwr_krum.kernel.geometry import Geometry
from flwr_krum.kernel.sorting import Window
from flwr_krum.kernel.updates import ClientUpdates
from flwr_krum.rules.average import Average
from flwr_krum.rules.krum import Krum, MultiKrum, OneMinusPKrum, inverse_square_root
from flwr_krum.rules.mean_around_median import MeaMed
from flwr_krum.rules.median import Median
from flwr_krum.rules.medoid import Medoid
from flwr_krum.rules.rule import Aggregate, Chain, Choice, Mixing, Rule
from flwr_krum.rules.trimmed_mean import TrimmedMean

__all__ = [
    "MIXINGS",
    "RULES",
    "Aggregate",
    "Average",
    "Chain",
    "Choice",
    "ClientUpdates",
    "Geometry",
    "Krum",
    "MeaMed",
    "Median",
    "Medoid",
    "Mixing",
    "MultiKrum",
    "OneMinusPKrum",
    "Rule",
    "TrimmedMean",
    "Window",
    "inverse_square_root",
]

RULES: Mapping[str, type[Rule]] = {
    "average": Average,
    "krum": Krum,
    "multi-krum": MultiKrum,
    "medoid": Medoid,
    "1-p-krum": OneMinusPKrum,
    "median": Median,
    "trimmed-mean": TrimmedMean,
    "meamed": MeaMed,
}
"""Rules by the name that they are written with, see `flwr_krum.rules.written`; whatever lists
rules reads this, in this order."""

MIXINGS: Mapping[str, type[Mixing]] = {}
"""Mixings by the name that they are written with, before a rule."""
