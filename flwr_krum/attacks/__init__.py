"""What goes wrong, as pure functions: attack vectors, and hostile replies that are no model."""

from flwr_krum.attacks.faults import FAULTS, malforming_mod
from flwr_krum.attacks.vectors import steering_vector

__all__ = ["FAULTS", "malforming_mod", "steering_vector"]
