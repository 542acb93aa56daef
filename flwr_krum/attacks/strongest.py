"""The most damaging rows that a search finds against the rule in force.

It begins with the rows of every attack that has a name and sees enough, and with lines along which
robust rules give way; then it changes coefficients, one after the other, while that does more. So
it is never weaker than the best of them, and a lower bound on what who knows all can do.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, fields, replace
from typing import ClassVar

import numpy as np

from flwr_krum.attacks.attack import Attack, AttackFacts, Need, Scene, Wrapper
from flwr_krum.attacks.factors import grid
from flwr_krum.attacks.optimal import (
    Found,
    Line,
    OptimalALIE,
    OptimalIPM,
    deviation_of,
    most_damaging,
)
from flwr_krum.attacks.scaling import length
from flwr_krum.attacks.search import GOALS, Goal, Search, finite_rows, mean_of
from flwr_krum.checks import one_of, whole_number
from flwr_krum.kernel.arrays import Array, Float64
from flwr_krum.kernel.threads import one_blas_thread

EIGENVECTORS = 3
"""Directions of largest variance that are searched."""

KEPT = 3
"""Starts from which coefficients are changed."""

COARSE = 1
"""Points from one factor to twice that where many lines are compared."""

ZERO = -1
"""The place, before all attacks, of rows of zeros."""

SEARCHED, KINDS, COEFFICIENTS = "searched", "kinds", "coefficients"
"""Under which names a memory has the round of the last search, and what won."""


@dataclass(frozen=True)
class Strongest(Attack):
    """Send the rows that do most, of all that a search over coefficients finds.

    Rows are combinations of honest updates and of sigma, sign(mu), mu being their mean and sigma
    their deviation, and of the best rows of other attacks; each attacker has coefficients of its
    own. `found` says what won.

    Parameters
    ----------
    budget : int (default: 2000)
        Candidates that are tried, about; each costs O(n^2) where the rule weighs clients.
    goal : "distance" | "progress" (default: "distance")
        What is made large: ``||F - mu||``, or ``-<F, mu>``, F being the result.
    every : int (default: 1)
        Rounds from one search to the next. Those between send the combination that won, of their
        own updates: no longer the strongest, and cheap enough for a long run.

    Raises
    ------
    ValueError
        If the budget or every is below 1, or there is no such goal; in a scene, if the rule cannot
        run on h + f clients.
    """

    budget: int = 2000
    goal: Goal = "distance"
    every: int = 1

    facts = AttackFacts(
        source="this package; in the spirit of El Mhamdi et al., ICLR 2021, and of Shejwalkar, "
        "Houmansadr, NDSS 2021",
        formula="C [H; sigma; sign(mu); rows of other attacks], C searched for the largest "
        "||F - mu||",
        breaks="each rule as far as any attack here does, and further",
        resists="none: what it reaches is what a rule of known f lets through",
    )

    begins_with: ClassVar[tuple[type[Attack], ...]] = ()
    """Kinds of attacks whose rows, by their defaults, are tried first: all that have a name."""

    def __post_init__(self) -> None:
        whole_number("budget", self.budget, 1)
        one_of("goal", self.goal, GOALS)
        whole_number("every", self.every, 1)

    @property
    def needs(self) -> frozenset[Need]:
        """The rule, and the rounds before where not every one is searched."""
        return frozenset({"rule"}) if self.every == 1 else frozenset({"rule", "memory"})

    def rows(self, scene: Scene) -> Float64:
        """Return a row for each attacker."""
        with one_blas_thread():
            if self.every == 1:
                return self._found(scene)[0].rows
            again = self._again(scene)
            if again is not None:
                return again
            memory: MutableMapping[str, Array] = scene.required("memory")
            found, kinds, C = self._found(scene)
            memory[SEARCHED], memory[KINDS] = np.array(scene.server_round), np.array(kinds, int)
            memory[COEFFICIENTS] = C
            return found.rows

    def _again(self, scene: Scene) -> Float64 | None:
        """Return what won the last search, of this round's updates; None where one is due."""
        memory: MutableMapping[str, Array] = scene.required("memory")
        if SEARCHED not in memory or scene.server_round >= int(memory[SEARCHED]) + self.every:
            return None
        scene = replace(scene, honest=finite_rows(scene.honest))
        seed = int(scene.rng.integers(2**31))
        rows = [self._rows_of(kind, scene, seed) for kind in memory[KINDS].tolist()]
        sent = [each for each in rows if each is not None]
        base = np.vstack([scene.honest, _spreads(scene), *sent])
        C = memory[COEFFICIENTS]
        if C.shape != (scene.f, len(base)):
            return None  # other clients are seen than in the search
        with np.errstate(over="ignore", invalid="ignore"):
            made: Float64 = C @ base
        return made

    def found(self, scene: Scene) -> Found:
        """Return what won: its name, factor, damage and rows."""
        with one_blas_thread():
            return self._found(scene)[0]

    def _found(self, scene: Scene) -> tuple[Found, tuple[int, ...], Float64]:
        """Return what won, the kinds whose rows it was mixed with, and its coefficients."""
        seed = int(scene.rng.integers(2**31))
        scene = replace(scene, honest=finite_rows(scene.honest))
        plain = Search(replace(scene, rng=np.random.default_rng(seed)), goal=self.goal)
        named = [
            (plain.damage_of_rows(rows), kind, rows) for kind, rows in self._named(scene, seed)
        ]
        named.sort(key=lambda each: -each[0])
        # What no float holds is tried above, and never mixed with other rows.
        mixable = [each for each in named if 0.0 < length(each[2].ravel()) < 1e100][:KEPT]
        kinds = tuple(kind for _, kind, _ in mixable)
        directions = np.vstack([_spreads(scene), *(rows for _, _, rows in mixable)])
        again = replace(scene, rng=np.random.default_rng(seed))
        search = Search(again, directions, self.goal)
        search.evaluations = plain.evaluations
        lines = list(_lines(search))
        starts = self._along(search, lines)
        starts += [
            (damage, self._name(kind), 1.0, np.eye(search.p)[first : first + scene.f])
            for i, (damage, kind, _) in enumerate(mixable)
            for first in (search.h + 2 + i * scene.f,)
        ]
        starts.sort(key=lambda start: -start[0])
        climbed = [self._climb(search, start, KEPT - i) for i, start in enumerate(starts[:KEPT])]
        damage, kind, rows = named[0]
        own = np.eye(scene.f, search.h + 2 + scene.f, search.h + 2)
        candidates: list[tuple[Found, tuple[int, ...], Float64]] = [
            (Found(self._name(kind), 1.0, damage, rows), (kind,), own)
        ]
        candidates += [
            (Found(name, factor, search.damage_of_rows(rows), rows), kinds, np.array(C))
            for _, name, factor, C in (*climbed, *starts[:KEPT])
            for rows in (search.rows(C),)
        ]
        # The same seeds make the rule of both searches the same.
        return max(candidates, key=lambda each: each[0].damage)

    def _named(self, scene: Scene, seed: int) -> Iterator[tuple[int, Float64]]:
        """Yield zeros, and the rows of other attacks by their defaults, with their places."""
        for kind in (ZERO, *range(len(self.begins_with))):
            rows = self._rows_of(kind, scene, seed)
            if rows is not None:
                yield kind, rows

    def _name(self, kind: int) -> str:
        return "zero" if kind == ZERO else self.begins_with[kind].__name__

    def _rows_of(self, place: int, scene: Scene, seed: int) -> Float64 | None:
        """Return the rows of the attack at a place, or None if it sends none, or none here."""
        if place == ZERO:
            return np.zeros((scene.f, scene.honest.shape[1]))
        kind = self.begins_with[place]
        if issubclass(kind, Strongest | Wrapper | OptimalIPM | OptimalALIE):
            return None
        if any(each.default is each.default_factory for each in fields(kind)):
            return None  # a parameter without a default
        attack = kind()
        spoils = kind.spoiled is not Attack.spoiled or attack.changes_data
        if spoils or any(getattr(scene, need) is None for need in attack.needs):
            return None
        memory = None if scene.memory is None else dict(scene.memory)
        seen = replace(scene, rng=np.random.default_rng(seed), memory=memory)
        try:
            return attack.on(seen)
        except ValueError:
            return None  # it has no answer to this scene

    def _along(self, search: Search, lines: list[Line]) -> list[tuple[float, str, float, Float64]]:
        """Return the best of each line: of the most promising ones, searched closely."""
        factors = grid(COARSE)
        tops = []
        for i, line in enumerate(lines):
            if i >= 3 and search.evaluations > self.budget // 3:
                break
            tops.append((max(search.damage(line.at(factor)) for factor in factors[1::2]), i))
        tops.sort(key=lambda top: (-top[0], top[1]))
        # IPM and ALIE always: no factor of theirs shall do more.
        close = [0, 1, 2, *(i for _, i in tops[:KEPT] if i > 2)]
        if self.budget < 500:
            close = [i for _, i in tops[:1]]
        found = []
        for i in close:
            best = most_damaging(search, [lines[i]])
            C = np.broadcast_to(lines[i].at(best.factor), (search.f, search.p))
            found.append((best.damage, best.name, best.factor, C))
        return found

    def _climb(
        self, search: Search, start: tuple[float, str, float, Float64], shares: int
    ) -> tuple[float, str, float, Float64]:
        """Change coefficients along directions, for all rows or one, while that does more."""
        damage, name, factor, C = start
        if not np.isfinite(damage):
            return start
        C = C.copy()
        damage = search.damage(C)
        left = max(0, self.budget - search.evaluations) // shares
        until = search.evaluations + left
        moves = list(_moves(search))
        whose: list[slice] = [slice(None), *(slice(i, i + 1) for i in range(search.f))]
        if search.f == 1:
            whose = whose[:1]
        steps = np.full((len(whose), len(moves)), 0.25)
        while np.abs(steps).max() > 1e-4:
            for w, rows in enumerate(whose):
                for m, move in enumerate(moves):
                    if search.evaluations >= until:
                        return damage, name, factor, C
                    if abs(steps[w, m]) <= 1e-4:
                        continue
                    tried = C.copy()
                    tried[rows] += steps[w, m] * move
                    reached = search.damage(tried)
                    if reached > damage:
                        damage, C = reached, tried
                        steps[w, m] *= 2.0
                    else:
                        steps[w, m] *= -0.5
        return damage, name, factor, C


def _spreads(scene: Scene) -> Float64:
    """Return sigma and sign(mu), (2, d), of finite honest updates."""
    return np.vstack([deviation_of(scene.honest, 1), np.sign(mean_of(scene.honest))])


def _lines(search: Search) -> Iterator[Line]:
    """Yield the lines that are searched, the ones of a single factor elsewhere first."""
    h, p, mean = search.h, search.p, search.mean_coefficients
    zero, unit = np.zeros(p), np.eye(p)
    yield Line("-mu", zero, -mean)
    yield Line("mu minus sigma", mean, -unit[h])
    yield Line("mu plus sigma", mean, unit[h])
    spread = length(search.base[h]) / max(1.0, float(np.sqrt(search.base.shape[1])))
    spread = spread if 0.0 < spread < np.inf else 1.0
    yield Line("mu minus sign", mean, -spread * unit[h + 1])
    yield Line("mu plus sign", mean, spread * unit[h + 1])
    yield Line("minus sign", zero, -spread * unit[h + 1])
    for k, along in enumerate(_eigenvectors(search)):
        yield Line(f"mu plus eigenvector {k}", mean, along)
        yield Line(f"mu minus eigenvector {k}", mean, -along)
    for i in range(h):
        yield Line(f"towards client {i}", mean, unit[i] - mean)
        yield Line(f"away from client {i}", mean, mean - unit[i])


def _eigenvectors(search: Search) -> list[Float64]:
    """Return coefficients of the directions of largest variance, each as long as its deviation."""
    h = search.h
    unit = float(np.abs(search.honest).max(initial=0.0)) or 1.0
    centred = search.honest / unit - search.mean / unit
    values, vectors = np.linalg.eigh(centred @ centred.T)
    kept = [i for i in range(h - 1, max(-1, h - 1 - EIGENVECTORS), -1) if values[i] > 1e-12]
    coefficients = []
    for i in kept:
        weights = np.zeros(search.p)
        weights[:h] = vectors[:, i] / np.sqrt(max(1, h - 1))
        weights[:h] -= weights[:h].mean()
        coefficients.append(weights)
    return coefficients


def _moves(search: Search) -> Iterator[Float64]:
    """Yield the directions in which coefficients are changed."""
    seen = set()
    for line in _lines(search):
        key = tuple(np.abs(line.direction).tolist())
        if key not in seen:  # a step may go back as well
            seen.add(key)
            yield line.direction
