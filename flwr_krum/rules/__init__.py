"""Aggregation rules: what is made of the geometry of n client updates, without Flower."""

from collections.abc import Mapping

from flwr_krum.kernel.geometry import Geometry
from flwr_krum.kernel.sorting import Window
from flwr_krum.kernel.updates import ClientUpdates
from flwr_krum.rules.average import Average
from flwr_krum.rules.bucketing import Bucketing
from flwr_krum.rules.bulyan import Bulyan
from flwr_krum.rules.centered_clipping import CenteredClipping
from flwr_krum.rules.cge import CGE
from flwr_krum.rules.clipping import AdaptiveClipping, Clipping, NormBounding
from flwr_krum.rules.dnc import DnC
from flwr_krum.rules.filtering import CAF
from flwr_krum.rules.fltrust import FLTrust
from flwr_krum.rules.geometric_median import GeometricMedian
from flwr_krum.rules.krum import Krum, MultiKrum, OneMinusPKrum, inverse_square_root
from flwr_krum.rules.mean_around_median import MeaMed
from flwr_krum.rules.median import Median
from flwr_krum.rules.medoid import Medoid
from flwr_krum.rules.minimum_diameter import MinimumDiameter
from flwr_krum.rules.mixing import Chain, Mixing
from flwr_krum.rules.monna import MoNNA
from flwr_krum.rules.nearest_neighbour_mixing import NearestNeighborMixing
from flwr_krum.rules.phocas import Phocas
from flwr_krum.rules.rule import Aggregate, Choice, Rule
from flwr_krum.rules.smea import SMEA
from flwr_krum.rules.trimmed_mean import TrimmedMean

__all__ = [
    "CAF",
    "CGE",
    "MIXINGS",
    "PAPER",
    "RULES",
    "SMEA",
    "AdaptiveClipping",
    "Aggregate",
    "Average",
    "Bucketing",
    "Bulyan",
    "CenteredClipping",
    "Chain",
    "Choice",
    "ClientUpdates",
    "Clipping",
    "DnC",
    "FLTrust",
    "GeometricMedian",
    "Geometry",
    "Krum",
    "MeaMed",
    "Median",
    "Medoid",
    "MinimumDiameter",
    "Mixing",
    "MoNNA",
    "MultiKrum",
    "NearestNeighborMixing",
    "NormBounding",
    "OneMinusPKrum",
    "Phocas",
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
    "geometric-median": GeometricMedian,
    "minimum-diameter": MinimumDiameter,
    "centered-clipping": CenteredClipping,
    "norm-bounding": NormBounding,
    "caf": CAF,
    "smea": SMEA,
    "cge": CGE,
    "bulyan": Bulyan,
    "phocas": Phocas,
    "dnc": DnC,
    "monna": MoNNA,
    "fltrust": FLTrust,
}
"""Rules by the name that they are written with, see `flwr_krum.rules.written`; whatever lists
rules reads this, in this order."""

PAPER = ("average", "krum", "multi-krum", "medoid", "1-p-krum")
"""Averaging, and the rules of the paper that this package is named after."""

MIXINGS: Mapping[str, type[Mixing]] = {
    "nnm": NearestNeighborMixing,
    "bucketing": Bucketing,
    "clipping": Clipping,
    "arc": AdaptiveClipping,
}
"""Mixings by the name that they are written with, before a rule."""
