"""What a candidate does to the rule in force, worked out without a pass over the models.

The attackers' rows are linear combinations C of base rows B: the honest updates, and directions.
One Gram matrix of B gives the geometry of every candidate; where the rule then weighs clients, the
damage is a quadratic form in it, O((h + q)^2) work for h honest updates and q directions. Where it
sorts coordinates, the result is worked out on the rows themselves, O(n d).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np

from flwr_krum.attacks.attack import Chosen, InForce, Scene
from flwr_krum.attacks.factors import Trial
from flwr_krum.attacks.scaling import length
from flwr_krum.kernel.arrays import Float64, Indices
from flwr_krum.kernel.client_geometry import ClientGeometry
from flwr_krum.kernel.combine import combine
from flwr_krum.kernel.geometry import LARGEST, Geometry
from flwr_krum.kernel.ranking import Contrast, Ranking, Score, rank_as_rounded
from flwr_krum.kernel.sorting import Window
from flwr_krum.kernel.updates import BLOCK, ClientUpdates

Goal: TypeAlias = Literal["distance", "progress"]
"""What counts as damage: how far the result F is from the honest mean mu, or ``-<F, mu>``."""

GOALS: tuple[Goal, ...] = ("distance", "progress")

SAME = 2.0**-44
"""A squared distance, beside the terms that it is the rest of, that is rounding alone."""

DIGITS = 40
"""Bits to which mixtures are compared: beside a jump of the rule's, the others are rounding."""

WIDE = 4096
"""Coordinates from which on the second pass sorts faster than NumPy, for all its preparation."""

_STAND_INS: dict[str, Callable[[int, int], Float64]] = {
    "root": lambda h, p: np.repeat([1.0 / h, 0.0], [h, p - h]),
    "step": lambda h, p: np.zeros(p),
}
"""Coefficients of what the adversary takes the server's own rows for, which it does not see."""


class Search:
    """The rule in force as an adversary tries it: honest updates, and f rows of its own.

    The rule sees n = h + f clients, the attackers last. It is what the server would make of it for
    that many (one without an f of its own bears as many as it can), with a seed of the adversary's
    where it draws and has none. Rows of the server's own are not seen: the honest mean stands for
    the root update, and no step for the last one. For an honest update that is not finite stands
    the mean of the others.

    Parameters
    ----------
    scene : Scene
        With a rule.
    directions : (q, d), optional
        Rows beside the honest ones of which candidates are made, all finite.
    goal : "distance" | "progress"

    Raises
    ------
    ValueError
        If the rule cannot run on so many clients, or asks the server for a row that is unknown.
    """

    def __init__(
        self, scene: Scene, directions: Float64 | None = None, goal: Goal = "distance"
    ) -> None:
        self.honest = finite_rows(scene.honest)
        self.h, self.f, self.goal = len(self.honest), scene.f, goal
        self._round = scene.server_round
        self.rule = _in_force(scene.required("rule"), self.h + self.f, scene.rng)
        self.mean = mean_of(self.honest)
        self.base = self.honest if directions is None else np.vstack([self.honest, directions])
        self.p = len(self.base)
        self.mean_coefficients = np.repeat([1.0 / self.h, 0.0], [self.h, self.p - self.h])
        names = self.rule.server_rows
        if unknown := [name for name in names if name not in _STAND_INS]:
            raise ValueError(
                f"the rule asks the server for {unknown}, which no adversary can guess"
            )
        stand_ins = [_STAND_INS[name](self.h, self.p) for name in names]
        self._server = np.reshape(np.array(stand_ins), (len(names), self.p))
        self._inner = _Inner(self.base, self.h, self.mean)
        self.evaluations = 0
        self._windows: dict[tuple[Window, bytes], float] = {}

    def attempt(self, coefficients: Float64) -> Trial:
        """Return what rows ``C B`` do, and which clients the rule takes for what.

        Parameters
        ----------
        coefficients : (f, h + q), or (h + q,) for one row that all send

        Returns
        -------
        Trial
            Of infinite damage where the result is not finite, and of minus infinity where the
            rule cannot run.
        """
        self.evaluations += 1
        C = np.broadcast_to(coefficients, (self.f, self.p))
        candidates = _Candidates(self._inner, self.h, C, self._server, self.rule.server_rows)
        with np.errstate(all="ignore"):
            choice = self._chosen(candidates)
            if choice is None:
                return Trial(-np.inf)
            mix = choice.mix
            pattern = tuple(sorted(row.tobytes() for row in mix != 0.0))
            if isinstance(choice.window, Window):
                mixed = mix @ candidates.coefficients[: mix.shape[1]]
                return Trial(self._of_window(mixed, choice.window), pattern)
            if choice.window is not None:
                result = self._result(self._updates(self.rows(C)), choice)
                return Trial(self._of_result(result), pattern)
            weights = mix[0] @ candidates.coefficients[: mix.shape[1]]
            return Trial(self._inner.damage(weights, self.goal, self.mean_coefficients), pattern)

    def damage(self, coefficients: Float64) -> float:
        """Return what rows ``C B`` do, as `attempt` has it."""
        return self.attempt(coefficients).damage

    def damage_of_rows(self, rows: Float64) -> float:
        """Return what rows (f, d) do, worked out on the rows themselves.

        Minus infinity where one is not finite: the server refuses it.
        """
        self.evaluations += 1
        if not np.isfinite(rows).all():
            return -np.inf
        updates = self._updates(rows)
        with np.errstate(all="ignore"):
            choice = self._chosen(ClientGeometry(updates))
            return -np.inf if choice is None else self._of_result(self._result(updates, choice))

    def weights(self, coefficients: Float64) -> Float64 | None:
        """Return what the rule gives each client (n,); None where it sorts, or cannot run."""
        self.evaluations += 1
        C = np.broadcast_to(coefficients, (self.f, self.p))
        candidates = _Candidates(self._inner, self.h, C, self._server, self.rule.server_rows)
        with np.errstate(all="ignore"):
            choice = self._chosen(candidates)
        n = self.h + self.f
        return None if choice is None or choice.window is not None else choice.mix[0, :n]

    def rows(self, coefficients: Float64) -> Float64:
        """Return the rows (f, d) of coefficients (f, h + q) or (h + q,)."""
        with np.errstate(over="ignore", invalid="ignore"):
            made: Float64 = np.atleast_2d(coefficients) @ self.base
        return np.broadcast_to(made, (self.f, self.base.shape[1]))

    def _chosen(self, geometry: Geometry) -> Chosen | None:
        try:
            return self.rule.choose(geometry, self._round)
        except ValueError:  # NumPy's linear algebra that does not converge is one as well
            return None

    def _updates(self, rows: Float64) -> ClientUpdates:
        updates = ClientUpdates.from_matrix(np.vstack([self.honest, rows]))
        if not self.rule.server_rows:
            return updates
        held = dict(zip(self.rule.server_rows, self._server @ self.base, strict=True))
        return replace(updates, server_rows={name: (row,) for name, row in held.items()})

    def _result(self, updates: ClientUpdates, choice: Chosen) -> Float64:
        (result,) = combine(updates, choice.mix, choice.window)
        return result

    def _of_window(self, mixed: Float64, window: Window) -> float:
        """Return the damage of a window of mixtures (k, h + q) of the base rows.

        Worked out once for mixtures that differ by rounding alone: behind a mixing that shortens
        what is long, all large factors are one.
        """
        key = (window, _digits(mixed * self._inner.lengths))
        if key not in self._windows:
            if self.base.shape[1] < WIDE:
                result = window_mean(mixed @ self.base, window)
            else:
                (result,) = combine(self._base_updates, mixed, window)
            self._windows[key] = self._of_result(result)
        return self._windows[key]

    @cached_property
    def _base_updates(self) -> ClientUpdates:
        return ClientUpdates.from_matrix(self.base)

    def _of_result(self, result: Float64) -> float:
        """Return the damage that a result is; infinite where a coordinate is no number."""
        with np.errstate(over="ignore", invalid="ignore"):
            if self.goal == "progress":
                found = -float(result @ self.mean)
            else:
                found = length(result - self.mean)
        return found if np.isfinite(found) else np.inf


def window_mean(rows: Float64, window: Window) -> Float64:
    """Return, per coordinate, the mean of a window of the sorted rows (k, d)."""
    ordered = np.sort(rows, axis=0)
    centre = ordered[window.centre.start : window.centre.stop].mean(axis=0)
    among = ordered[window.first : window.last]
    keep = window.keep
    if keep == len(among):
        mean: Float64 = among.mean(axis=0)
        return mean
    # Of two values that are equally close, the smaller one is kept.
    first = (among[keep:] - centre < centre - among[:-keep]).sum(axis=0)
    kept: Float64 = np.take_along_axis(among, first + np.arange(keep)[:, None], axis=0).mean(axis=0)
    return kept


def finite_rows(honest: Float64) -> Float64:
    """Return the updates, with the mean of the finite ones for one that is not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(honest.sum(axis=1)).all():  # then so is every number
            return honest
    finite = np.flatnonzero(np.isfinite(honest).all(axis=1))
    if len(finite) == len(honest):
        return honest
    mean = mean_of(honest[finite]) if len(finite) else np.zeros(honest.shape[1])
    mended = np.tile(mean, (len(honest), 1))
    mended[finite] = honest[finite]
    return mended


def mean_of(honest: Float64) -> Float64:
    """Return the mean (d,) of finite rows, also where their sum overflows."""
    with np.errstate(over="ignore"):
        mean: Float64 = honest.mean(axis=0)
    return mean if np.isfinite(mean).all() else (honest / len(honest)).sum(axis=0)


def _in_force(rule: InForce, n: int, rng: np.random.Generator) -> InForce:
    """Return the rule as a server would use it on n clients.

    Raises
    ------
    ValueError
        If n clients are too few for it.
    """
    fitted = rule.fitted(n, rule.liars(n)).seeded(int(rng.integers(2**31)))
    try:
        fitted.check(n)
    except ValueError as error:
        raise ValueError(f"the rule in force cannot run on h + f = {n} clients: {error}") from None
    return fitted


def _digits(rows: Float64) -> bytes:
    """Return rows to `DIGITS` bits of what is largest in each."""
    largest = np.abs(rows).max(axis=1, keepdims=True)
    unit = np.ldexp(1.0, np.frexp(largest)[1] - DIGITS)
    near: Float64 = np.round(rows / unit) * unit + 0.0  # -0 is 0
    return near.tobytes()


class _Inner:
    """Inner products of the base rows: as they are, and with the honest ones less their mean.

    Lengths are in units of 1 / scale, a power of two that keeps squares within floats. What is
    left of distances beside a large common offset is in the products about the mean.
    """

    def __init__(self, base: Float64, h: int, mean: Float64) -> None:
        top = float(np.abs(base).max(initial=0.0))
        fits = top == 0.0 or 1e-100 < top < 1e100
        self.scale = 1.0 if fits else 2.0 ** -max(-1000, min(1000, int(np.frexp(top)[1])))
        self.base, self.h = base, h
        p, d = base.shape
        self.about_origin, self.about_mean = np.zeros((p, p)), np.zeros((p + 1, p + 1))
        self.along_mean = np.zeros(p)
        block = np.empty((p + 1, min(d, BLOCK)))  # the rows, then their mean; it stays in the cache
        for start in range(0, d, BLOCK):
            stop = min(d, start + BLOCK)
            part = block[:, : stop - start]
            np.multiply(base[:, start:stop], self.scale, out=part[:p])
            np.multiply(mean[start:stop], self.scale, out=part[p])
            self.about_origin += part[:p] @ part[:p].T
            self.along_mean += part[:p] @ part[p]
            part[:h] -= part[p]
            self.about_mean += part @ part.T
        self.lengths = np.sqrt(np.diagonal(self.about_origin))

    def damage(self, weights: Float64, goal: Goal, mean_coefficients: Float64) -> float:
        """Return what a result ``weights B`` is; infinite where it is no number."""
        if goal == "progress":
            found = -float(weights @ self.along_mean / self.scale / self.scale)
        else:
            # About the mean, its own coefficients are worth nothing: less of the rest is rounded.
            offset = np.append(weights - mean_coefficients, weights[: self.h].sum() - 1.0)
            found = float(np.sqrt(np.maximum(offset @ self.about_mean @ offset, 0.0)) / self.scale)
        return found if np.isfinite(found) else np.inf


class _Candidates(Geometry):
    """The geometry of the honest rows and f combinations of base rows, the server's rows last."""

    def __init__(
        self, inner: _Inner, h: int, C: Float64, server: Float64, names: tuple[str, ...]
    ) -> None:
        self.n, self._h = h + len(C), h
        self.server_rows = names
        self._inner = inner
        self.coefficients = np.vstack([np.eye(h, C.shape[1]), C, server])

    @property
    def scale(self) -> float:
        """The unit of lengths."""
        return self._inner.scale

    @cached_property
    def all_products(self) -> Float64:
        """Inner products of the rows."""
        products: Float64 = self.coefficients @ self._inner.about_origin @ self.coefficients.T
        return np.nan_to_num(products, copy=False, nan=LARGEST, posinf=LARGEST, neginf=-LARGEST)

    @cached_property
    def all_squared(self) -> Float64:
        """Squared distances of the rows; 0 where only rounding would be left."""
        rest = self.coefficients[:, : self._h].sum(axis=1) - 1.0
        mix = np.column_stack([self.coefficients, rest])
        form = mix @ self._inner.about_mean @ mix.T
        own = np.diagonal(form)
        sides = own[:, None] + own[None, :]
        squared = sides - form - form.T
        squared[~(squared > SAME * sides)] = 0.0
        squared[np.isnan(sides)] = LARGEST
        np.fill_diagonal(squared, 0.0)
        within: Float64 = np.minimum(squared, LARGEST)
        return within

    def rank(self, score: Score, count: int, contrast: Contrast | None = None) -> Ranking:
        """Return the ``count`` rows of smallest score, in float64."""
        return rank_as_rounded(self.squared, score, count)

    @property
    def d(self) -> int:
        """Number of coordinates."""
        return int(self._inner.base.shape[1])

    def columns(self, chosen: Indices) -> Float64:
        """Return some coordinates (n, b) of the rows."""
        base = self._inner.base[:, chosen]
        made = self.coefficients[self._h : self.n] @ base
        rows: Float64 = np.clip(np.vstack([base[: self._h], made]), -LARGEST, LARGEST)
        return rows
