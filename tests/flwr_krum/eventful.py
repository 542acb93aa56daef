"""Four rounds in which something of everything happens, and their journal."""

import math

import numpy as np

from flwr_krum.boundary.replies import Reply
from flwr_krum.optimizers import FedAdam
from flwr_krum.round import Rounds
from flwr_krum.rules import MultiKrum
from tests.flwr_krum.npy_bytes import npy

MODEL = {"w": np.zeros(3, np.float32)}
FATES = {
    # round: nodes that send NaN, fail, or are silent
    1: ([8], {}, []),
    2: ([8], {7: "a disk is full"}, ["six"]),
    3: ([], {}, []),
    4: ([], dict.fromkeys((0, 1, 2), "gone"), [3]),
}
NODES = (0, 1, 2, 3, 4, 5, "six", 7, 8)


def play(rounds, t):
    """Play one round of nine nodes, with the accidents above."""
    bad, failed, silent = FATES[t]
    left_out = rounds.begin(MODEL, NODES)
    rng = np.random.default_rng(t)
    replies = []
    for node in NODES:
        value = (1.0 + 1e-3 * rng.standard_normal(3)).astype(np.float32)
        value = np.full(3, math.nan, np.float32) if node in bad else value
        if node not in left_out and node not in failed and node not in silent:
            replies.append(Reply(node, {"w": npy(value)}))
    return rounds.finish(t, replies, failed)[1]


def write_journal(path):
    """Play the rounds, with a certificate, an optimizer and quarantine."""
    rounds = Rounds(
        MultiKrum(f=2), journal=path, quarantine=2, certificate=True, server_optimizer=FedAdam()
    )
    for t in FATES:
        play(rounds, t)
    rounds._ledger._journal.close()
