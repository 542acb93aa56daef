"""What goes wrong, as pure functions: attacks on updates, and hostile replies that are no model."""

from collections.abc import Mapping

from flwr_krum.attacks.attack import Attack, AttackFacts, Scene, Wrapper
from flwr_krum.attacks.fang_krum import FangKrum
from flwr_krum.attacks.faults import FAULTS, malforming_mod
from flwr_krum.attacks.gaussian import Gaussian
from flwr_krum.attacks.malformed import Malformed
from flwr_krum.attacks.omniscient import Omniscient
from flwr_krum.attacks.optimal import OptimalALIE, OptimalIPM
from flwr_krum.attacks.sign_flip import SignFlip
from flwr_krum.attacks.strongest import Strongest
from flwr_krum.attacks.vectors import steering_vector

__all__ = [
    "ATTACKS",
    "FAULTS",
    "WRAPPERS",
    "Attack",
    "AttackFacts",
    "FangKrum",
    "Gaussian",
    "Malformed",
    "Omniscient",
    "OptimalALIE",
    "OptimalIPM",
    "Scene",
    "SignFlip",
    "Strongest",
    "Wrapper",
    "malforming_mod",
    "steering_vector",
]

ATTACKS: Mapping[str, type[Attack]] = {
    "gaussian": Gaussian,
    "omniscient": Omniscient,
    "malformed": Malformed,
    "sign-flip": SignFlip,
    "fang-krum": FangKrum,
    "optimal-ipm": OptimalIPM,
    "optimal-alie": OptimalALIE,
    "strongest": Strongest,
}
"""Attacks by the name that they are written with, see `flwr_krum.attacks.written`; whatever lists
attacks reads this, in this order."""

WRAPPERS: Mapping[str, type[Wrapper]] = {}
"""What decides when an attack is at work, by the name that it is written with, before it."""

Strongest.begins_with = tuple(ATTACKS.values())
