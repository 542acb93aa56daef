"""Nine hospitals of very different sizes, and what one of them can do to the mean of all.

The ends and the total of the sizes are MediSwarm's, the middle is made up. A site's optimum is a
common one, of length 1, a shift of its own (.3), and sampling noise (.3 at 1,900 volumes).
"""

from __future__ import annotations

import numpy as np

SIZES = np.array([17834.0, 5200, 3900, 2700, 1900, 1350, 820, 601, 190])
SHARES = SIZES / SIZES.sum()


def of_length(rng, n, d, length):
    """Return n random vectors (n, d) of the given lengths."""
    V = rng.standard_normal((n, d))
    return V / np.linalg.norm(V, axis=1, keepdims=True) * np.broadcast_to(length, (n,))[:, None]


def optima(seed, d=1000):
    """Return the sites' models (9, d)."""
    rng = np.random.default_rng(seed)
    noise = of_length(rng, len(SIZES), d, 0.3 * np.sqrt(1900 / SIZES))
    return of_length(rng, 1, d, 1.0) + of_length(rng, len(SIZES), d, 0.3) + noise


def error(found, sites, honest):
    """Return how far a result is from the honest sites' mean by declared size, relative to it."""
    mean = SIZES[honest] @ sites[honest] / SIZES[honest].sum()
    return float(np.linalg.norm(found - mean) / np.linalg.norm(mean))


def lies(sites, liar, seed, directions=8, sizes=16):
    """Yield what one site can send: so many directions times so many sizes."""
    honest = np.delete(sites, liar, axis=0)
    mean = np.delete(SIZES, liar) @ honest / np.delete(SIZES, liar).sum()
    spread = np.linalg.svd(honest - honest.mean(axis=0), full_matrices=False)[2]
    rng = np.random.default_rng([seed, liar])
    magnitudes = [*np.geomspace(1000.0, 8.0, 4), *np.geomspace(2.0, 0.1, 12)]
    ways = [
        sites[liar], -sites[liar], spread[0], -spread[0], spread[1],
        honest[np.argmin(np.linalg.norm(honest - mean, axis=1))] - mean,
        mean - honest.mean(axis=0), rng.standard_normal(sites.shape[1]),
    ]  # fmt: skip
    for way in ways[:directions]:
        for size in magnitudes[:: max(1, 16 // sizes)]:
            yield mean + size * way / np.linalg.norm(way)


def worst(rule_of, liar, seeds=4, **grid):
    """Return the worst error that one site causes, or None for the error without a lie."""
    found = 0.0
    for seed in range(seeds):
        sites = optima(seed)
        if liar is None:
            found = max(found, error(rule_of(sites), sites, np.arange(len(SIZES))))
            continue
        for lie in lies(sites, liar, seed, **grid):
            sent = sites.copy()
            sent[liar] = lie
            honest = np.delete(np.arange(len(SIZES)), liar)
            found = max(found, error(rule_of(sent), sites, honest))
    return found


# --- the same nine sites, training a logistic regression ---

FEATURES, ROUNDS, STEPS, RATE, SIGNAL, SHIFT = 60, 20, 20, 0.5, 7.1, 0.3
ATTACKS = ("none", "small x -1000", "big x -1000", "big, labels flipped", "big, mean - 1.5 std")
"""The x -1000 are of a site's update."""


class Patients:
    """A twentieth of each site's volumes to train on, and many more to test on."""

    def __init__(self, seed):
        rng = np.random.default_rng([7, seed])
        common = of_length(rng, 1, FEATURES, SIGNAL)
        self.truths = common + of_length(rng, len(SIZES), FEATURES, SHIFT * SIGNAL)
        self.train = [self._draw(rng, i, round(size / 20)) for i, size in enumerate(SIZES)]
        self.test = [self._draw(rng, i, 4000) for i in range(len(SIZES))]

    def _draw(self, rng, site, count):
        x = rng.standard_normal((count, FEATURES))
        chance = 1.0 / (1.0 + np.exp(-x @ self.truths[site]))
        return x, (rng.random(count) < chance).astype(float)

    def trained(self, model, site, flipped=False):
        """Return the model after steps of gradient descent on a site's own patients."""
        x, y = self.train[site]
        y = 1.0 - y if flipped else y
        for _ in range(STEPS):
            chance = 1.0 / (1.0 + np.exp(-np.clip(x @ model, -500, 500)))
            model = model + RATE * (x.T @ (y - chance) / len(y))
        return model

    def accuracy(self, model, sites):
        """Return the share of patients of some sites that a model gets right, in percent."""
        right = [np.mean((x @ model > 0) == (y > 0.5)) for x, y in (self.test[i] for i in sites)]
        return 100.0 * float(SIZES[sites] @ right / SIZES[sites].sum())


def replies(patients, model, attack):
    """Return what the sites send, and who is honest."""
    sent = np.array([patients.trained(model, i) for i in range(len(SIZES))])
    liar = {"none": None, "small x -1000": 8}.get(attack, 0)
    if attack.endswith("x -1000"):
        sent[liar] = model - 1000.0 * (sent[liar] - model)
    elif attack == "big, labels flipped":
        sent[0] = patients.trained(model, 0, flipped=True)
    elif attack == "big, mean - 1.5 std":
        sent[0] = sent[1:].mean(axis=0) - 1.5 * sent[1:].std(axis=0)
    return sent, np.array([i for i in range(len(SIZES)) if i != liar])


def accuracy(rule_of, attack, seeds=3):
    """Return the mean accuracy over honest patients, in percent, after the last round."""
    found = []
    for seed in range(seeds):
        patients, model = Patients(seed), np.zeros(FEATURES)
        for _ in range(ROUNDS):
            sent, honest = replies(patients, model, attack)
            model = rule_of(sent)
        found.append(patients.accuracy(model, honest))
    return float(np.mean(found))
