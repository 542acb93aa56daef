"""Learning rates by round."""

import math

from clients.settings import Settings


def learning_rate(settings: Settings, server_round: int) -> float:
    r"""Return the learning rate of a round.

    With rate r, round t = 1, 2, ... and horizon h = ``decay_rounds``::

        constant:  r
        inverse:   r / (1 + t / h)
        power:     r / t^0.75

    Convergence needs rates with sum = inf and sum of squares < inf (Proposition 2 of the paper).
    "inverse" (of the order of 1/t) and "power" (t^-0.75, whose squares are t^-1.5) satisfy both;
    "constant", the rate of the experiments, has an infinite sum of squares.

    Parameters
    ----------
    settings : Settings
        Gives the rate, the schedule and the horizon.
    server_round : int
        t, counted from 1.

    Raises
    ------
    ValueError
        If t is smaller than 1.
    """
    if server_round < 1:
        raise ValueError(f"server_round is {server_round}, expected >= 1: rounds count from 1")
    if settings.schedule == "inverse":
        return settings.learning_rate / (1 + server_round / settings.decay_rounds)
    if settings.schedule == "power":
        return settings.learning_rate / math.pow(server_round, 0.75)
    return settings.learning_rate
