"""What goes wrong, as pure functions: attacks on updates, and hostile replies that are no model."""

from flwr_krum.attacks.attack import Attack, AttackFacts, Scene, Wrapper
from flwr_krum.attacks.backdoor import Backdoor
from flwr_krum.attacks.fang_krum import FangKrum
from flwr_krum.attacks.fang_trimmed import FangTrimmedMean
from flwr_krum.attacks.faults import FAULTS, malforming_mod
from flwr_krum.attacks.free_rider import FreeRider
from flwr_krum.attacks.gaussian import Gaussian
from flwr_krum.attacks.inner_product import IPM
from flwr_krum.attacks.label_flip import LabelFlip
from flwr_krum.attacks.little_is_enough import ALIE
from flwr_krum.attacks.malformed import Malformed
from flwr_krum.attacks.mimic import Mimic
from flwr_krum.attacks.min_max import MinMax, MinSum
from flwr_krum.attacks.mod import attack_mod
from flwr_krum.attacks.names import ATTACKS, WRAPPERS
from flwr_krum.attacks.omniscient import Omniscient
from flwr_krum.attacks.on_off import OnOff
from flwr_krum.attacks.optimal import OptimalALIE, OptimalIPM
from flwr_krum.attacks.plain import Constant, NonFinite, Random, Zero
from flwr_krum.attacks.poisoned_fl import PoisonedFL
from flwr_krum.attacks.sign_flip import SignFlip
from flwr_krum.attacks.strongest import Strongest
from flwr_krum.attacks.takeover import ModelReplacement, Takeover
from flwr_krum.attacks.vectors import steering_vector

__all__ = [
    "ALIE",
    "ATTACKS",
    "FAULTS",
    "IPM",
    "WRAPPERS",
    "Attack",
    "AttackFacts",
    "Backdoor",
    "Constant",
    "FangKrum",
    "FangTrimmedMean",
    "FreeRider",
    "Gaussian",
    "LabelFlip",
    "Malformed",
    "Mimic",
    "MinMax",
    "MinSum",
    "ModelReplacement",
    "NonFinite",
    "Omniscient",
    "OnOff",
    "OptimalALIE",
    "OptimalIPM",
    "PoisonedFL",
    "Random",
    "Scene",
    "SignFlip",
    "Strongest",
    "Takeover",
    "Wrapper",
    "Zero",
    "attack_mod",
    "malforming_mod",
    "steering_vector",
]
