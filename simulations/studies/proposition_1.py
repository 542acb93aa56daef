"""Proposition 1 put to the test: what Krum's expectation does under attack, beside its bound.

Clouds of honest vectors ``V_i ~ N(g, sigma^2 I)`` are drawn, an adversary who sees them chooses
the f Byzantine ones, and the mean of the rule's answers is held against condition (i),
``<E KR, g> >= (1 - sin alpha) ||g||^2``, and the moments of condition (ii).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from flwr_krum.attacks import Attack, Gaussian, Scene, SignFlip, steering_vector
from flwr_krum.kernel.arrays import Float64
from flwr_krum.resilience import angle, max_byzantine, sin_alpha
from flwr_krum.rules import PAPER, Average, Krum, Rule
from flwr_krum.rules.written import parse_rule
from simulations.show.colours import looks_of
from simulations.show.plots import panel, save

Generator: TypeAlias = np.random.Generator
Z = 3.0
"""Half width of a confidence interval in standard errors: wrong once in 370 times, each side
once in 740."""


@dataclass(frozen=True)
class Cloud:
    """n clients, f of them Byzantine, whose honest vectors have mean g and variance d sigma^2.

    g lies along the first axis: the clouds are the same in every direction.
    """

    n: int
    f: int
    d: int
    sigma: float
    grad_norm: float = 1.0

    @property
    def sine(self) -> float:
        """sin(alpha) of Proposition 1."""
        return sin_alpha(self.n, self.f, d=self.d, sigma=self.sigma, grad_norm=self.grad_norm)

    @property
    def bound(self) -> float:
        """The least ``<E KR, g>`` that condition (i) allows; below 0 it promises nothing."""
        return (1.0 - self.sine) * self.grad_norm**2

    @property
    def g(self) -> Float64:
        """The gradient (d,)."""
        gradient: Float64 = self.grad_norm * np.eye(1, self.d)[0]
        return gradient

    def honest(self, rng: Generator) -> Float64:
        """Draw the honest vectors (n - f, d)."""
        return self.g + self.sigma * rng.standard_normal((self.n - self.f, self.d))


@dataclass(frozen=True)
class Measurement:
    """What a rule's answers come to over many draws.

    ``alignment`` estimates ``<E F, g>``, ``error`` is its standard error; ``moments`` are
    ``E ||F||^r / E ||G||^r`` for r = 2, 3, 4; ``chosen`` is the share of draws in which the rule
    selected a Byzantine vector.
    """

    attack: str
    alignment: float
    error: float
    moments: tuple[float, float, float]
    chosen: float

    def angle(self, cloud: Cloud) -> float:
        """Return the alpha at which condition (i) would be tight, in degrees; 90 where it fails."""
        lost = 1.0 - self.alignment / cloud.grad_norm**2
        return float(np.degrees(np.arcsin(np.clip(lost, 0.0, 1.0))))

    def respects(self, bound: float) -> bool:
        """Say whether the measurement is compatible with ``<E F, g> >= bound``."""
        return self.alignment + Z * self.error >= bound


def measure(
    rule: Rule, cloud: Cloud, name: str, attack: Attack, draws: int, rng: Generator
) -> Measurement:
    """Draw clouds, let the attack answer each, and measure what the rule makes of it."""
    answers, chosen, honest_norms = np.empty((draws, cloud.d)), 0, []
    for k in range(draws):
        honest = cloud.honest(rng)
        # The Byzantine vectors come last; ties would go to the honest.
        vectors = np.concatenate([honest, attack(honest, cloud.f, rng)])
        result = rule(vectors, server_round=k + 1)
        answers[k] = result.vector
        chosen += any(i >= len(honest) for i in result.selected)
        honest_norms.append(np.linalg.norm(honest[0]))
    along = answers @ cloud.g
    norms = np.linalg.norm(answers, axis=1)
    moments = tuple(
        float((norms**r).mean() / (np.array(honest_norms) ** r).mean()) for r in (2, 3, 4)
    )
    return Measurement(
        name,
        float(along.mean()),
        float(along.std(ddof=1) / np.sqrt(draws)),
        (moments[0], moments[1], moments[2]),
        chosen / draws,
    )


@dataclass(frozen=True)
class ShiftedMean(Attack):
    """Send the honest mean, moved by ``length`` typical distances.

    Direction 0 is against the mean itself, 1 across it, 2 towards the origin's far side of the
    client closest to the mean: near enough to be chosen, as far as it dares. ``spread`` puts the
    colluders apart, so that their mutual distances are not a telling zero.
    """

    direction: int
    length: float
    spread: float

    def rows(self, scene: Scene) -> Float64:
        """Return a row for each colluder."""
        honest, mean = scene.honest, scene.mean
        typical = float(np.sqrt(((honest - mean) ** 2).sum(axis=1).mean()))
        if self.direction == 0:
            way = -mean
        elif self.direction == 1:
            way = honest[0] - mean
        else:
            way = honest[np.argmin(honest @ mean)] - mean
        way = way / max(float(np.linalg.norm(way)), 1e-300)
        colluders = mean + self.length * typical * way
        noise = scene.rng.standard_normal((scene.f, len(mean)))
        rows: Float64 = colluders + self.spread * typical / np.sqrt(len(mean)) * noise
        return rows


def strongest_attack(rule: Rule, cloud: Cloud, draws: int, rng: Generator) -> tuple[str, Attack]:
    """Search direction, length and spread of the Byzantine vectors for the lowest ``<E F, g>``."""
    candidates: dict[str, Attack] = {
        f"reversed mean x {factor:g}": SignFlip(factor, of="mean")
        for factor in (0.01, 0.1, 0.3, 1.0)
    }
    for direction, way in enumerate(("against the mean", "across", "to the worst honest")):
        for length in (0.3, 0.6, 0.9, 1.2, 1.5, 2.0, 3.0, 4.0):
            for spread in (0.0, 0.3, 0.7):
                name = f"mean moved {length:g} {way}, spread {spread:g}"
                candidates[name] = ShiftedMean(direction, length, spread)
    seed = rng.integers(2**32)
    found = {
        name: measure(rule, cloud, name, attack, draws, np.random.default_rng(seed)).alignment
        for name, attack in candidates.items()
    }
    worst = min(found, key=lambda name: found[name])
    return worst, candidates[worst]


def measure_attacks(rule: Rule, cloud: Cloud, draws: int, seed: int = 0) -> list[Measurement]:
    """Measure a rule under the paper's two attacks and the strongest that a search finds."""
    rng = np.random.default_rng(seed)
    name, strongest = strongest_attack(rule, cloud, max(20, draws // 20), rng)
    attacks: dict[str, Attack] = {
        "gaussian, variance 200": Gaussian(),
        "omniscient, x 100": SignFlip(100.0, of="mean"),
        f"searched: {name}": strongest,
    }
    return [measure(rule, cloud, key, attack, draws, rng) for key, attack in attacks.items()]


def lemma_1(d: int = 100, n: int = 20, f: int = 6, seed: int = 0) -> tuple[float, bool]:
    """Let one client steer an average to a vector of its choice, and try the same on Krum.

    Returns
    -------
    error : float
        Relative distance of the average from the attacker's target.
    honest : bool
        Whether Krum's answer to the same vectors is one of the honest ones.
    """
    rng = np.random.default_rng(seed)
    honest = rng.standard_normal((n - 1, d))
    target = 1e3 * rng.standard_normal(d)
    vectors = np.concatenate([honest, [steering_vector(honest, target)]])
    error = np.linalg.norm(Average()(vectors).vector - target) / np.linalg.norm(target)
    return float(error), Krum(f)(vectors).selected[0] < n - 1


def angle_picture(path: Path, n: int, d: int, sigma: float, draws: int, seed: int = 0) -> None:
    """Draw each rule's measured angle under the worst attack over f / n, beside Krum's bound.

    A rule's line goes as far as the f that it tolerates.
    """
    clouds = [Cloud(n, f, d, sigma) for f in range(max_byzantine(n) + 1)]
    shares = [cloud.f / n for cloud in clouds]
    figure, axes = panel(
        f"Worst of three attacks, n = {n}, d = {d}, sigma = {sigma:g}, |g| = 1",
        "f / n",
        "alpha of condition (i), degrees (90: no descent)",
    )
    for name, look in zip(PAPER, looks_of(PAPER), strict=True):
        rules = [parse_rule(name, f=cloud.f, seed=seed) for cloud in clouds]
        worst = [
            _worst_angle(rule, cloud, draws, seed)
            for rule, cloud in zip(rules, clouds, strict=True)
            if rule.suffices(n, cloud.f)  # for few of them: a prefix
        ]
        axes.plot(shares[: len(worst)], worst, **look, marker="o", markersize=3, label=name)
    bounds = [angle(cloud.sine) for cloud in clouds]
    promised = [alpha for alpha in bounds if alpha is not None]  # eta grows with f: a prefix
    axes.plot(shares[: len(promised)], promised, ":", color="#777777", label="bound on krum")
    axes.set_ylim(-2.0, 93.0)
    save(figure, path)


def _worst_angle(rule: Rule, cloud: Cloud, draws: int, seed: int) -> float:
    return max(result.angle(cloud) for result in measure_attacks(rule, cloud, draws, seed))
