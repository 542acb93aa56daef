"""Every attack by name: whatever lists attacks reads this."""

from collections.abc import Mapping

from flwr_krum.attacks.attack import Attack, Wrapper
from flwr_krum.attacks.backdoor import Backdoor
from flwr_krum.attacks.fang_krum import FangKrum
from flwr_krum.attacks.fang_trimmed import FangTrimmedMean
from flwr_krum.attacks.free_rider import FreeRider
from flwr_krum.attacks.gaussian import Gaussian
from flwr_krum.attacks.inner_product import IPM
from flwr_krum.attacks.label_flip import LabelFlip
from flwr_krum.attacks.little_is_enough import ALIE
from flwr_krum.attacks.malformed import Malformed
from flwr_krum.attacks.mimic import Mimic
from flwr_krum.attacks.min_max import MinMax, MinSum
from flwr_krum.attacks.omniscient import Omniscient
from flwr_krum.attacks.on_off import OnOff
from flwr_krum.attacks.optimal import OptimalALIE, OptimalIPM
from flwr_krum.attacks.plain import Constant, NonFinite, Random, Zero
from flwr_krum.attacks.poisoned_fl import PoisonedFL
from flwr_krum.attacks.sign_flip import SignFlip
from flwr_krum.attacks.strongest import Strongest
from flwr_krum.attacks.takeover import ModelReplacement, Takeover

ATTACKS: Mapping[str, type[Attack]] = {
    "gaussian": Gaussian,
    "omniscient": Omniscient,
    "malformed": Malformed,
    "sign-flip": SignFlip,
    "ipm": IPM,
    "alie": ALIE,
    "min-max": MinMax,
    "min-sum": MinSum,
    "fang-krum": FangKrum,
    "fang-trimmed-mean": FangTrimmedMean,
    "mimic": Mimic,
    "takeover": Takeover,
    "model-replacement": ModelReplacement,
    "label-flip": LabelFlip,
    "backdoor": Backdoor,
    "free-rider": FreeRider,
    "poisoned-fl": PoisonedFL,
    "constant": Constant,
    "random": Random,
    "zero": Zero,
    "non-finite": NonFinite,
    "optimal-ipm": OptimalIPM,
    "optimal-alie": OptimalALIE,
    "strongest": Strongest,
}
"""Attacks by the name that they are written with, see `flwr_krum.attacks.written`; whatever lists
attacks reads this, in this order."""

WRAPPERS: Mapping[str, type[Wrapper]] = {"on-off": OnOff}
"""What decides when an attack is at work, by the name that it is written with, before it."""

Strongest.begins_with = tuple(ATTACKS.values())
