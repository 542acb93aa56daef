"""Attacks that remember the rounds before."""

import math
from itertools import pairwise

import numpy as np
import pytest

from flwr_krum.attacks import FreeRider, Mimic, PoisonedFL
from flwr_krum.attacks.written import parse_attack
from tests.flwr_krum.attacks.test_attack import scene

D = 5


def played(attack, rounds, seed=0, f=2, d=D):
    """Return what is seen and sent in each round of a training that goes on by itself."""
    rng = np.random.default_rng(seed)
    memory, model, found = {}, rng.normal(size=d), []
    for t in range(1, rounds + 1):
        honest = rng.normal(size=(7, d)) * [1, 5, 1, 1, 1][:d]
        seen = scene(
            t, f, honest=honest, own=honest[:f], model=model, memory=memory, server_round=t
        )
        found.append((seen, attack.on(seen)))
        model = model + honest.mean(axis=0) + 0.1 * found[-1][1].mean(axis=0)
    return found


# --- mimic ---


def oja(rounds, T, magnitude):
    """Return which client is mimicked in each round, by plain loops."""
    mean = z = place = None
    places = []
    for t, H in enumerate(rounds):
        mu = H.mean(axis=0)
        if t == 0:
            mean = mu
            z = np.linalg.eigh((H - mu).T @ (H - mu))[1][:, -1]
            z = z * np.sign(z[np.argmax(np.abs(z))])
        elif t < T:
            mean = t / (1 + t) * mean + mu / (1 + t)
            step = sum(((x - mean) @ z) * (x - mean) for x in H)
            z = t / (1 + t) * z + step / np.linalg.norm(step) / (1 + t)
            z = z / np.linalg.norm(z)
        if t < T:
            along = [(x - mu) @ z for x in H]
            place = int(np.argmax(np.abs(along) if magnitude else along))
        places.append(place)
    return places


@pytest.mark.parametrize("of", ["largest", "magnitude"])
def test_mimic_follows_the_main_direction_and_then_keeps_its_client(of):
    for seed in range(50):
        rounds = played(Mimic(warm_up=5, of=of), 9, seed)
        expected = oja([seen.honest for seen, _ in rounds], 5, of == "magnitude")
        for (seen, rows), place in zip(rounds, expected, strict=True):
            np.testing.assert_array_equal(rows, seen.honest[[place, place]])
        assert len(set(expected[4:])) == 1


def test_mimic_looks_anew_when_its_client_is_no_longer_there():
    memory = {}
    H = np.array([[0.0, 1.0], [0.0, 0.0], [9.0, 0.0]])
    attack = Mimic(warm_up=1)
    assert attack.on(scene(honest=H, memory=memory)).tolist() == [[9, 0]] * 2
    fewer = attack.on(scene(honest=H[:2], memory=memory))
    assert fewer.tolist() == [[0, 1]] * 2 or fewer.tolist() == [[0, 0]] * 2
    np.testing.assert_array_equal(attack.on(scene(honest=H, memory=memory)), fewer)


def test_mimic_of_equal_updates_is_any_and_stays_so():
    memory = {}
    for _ in range(4):
        rows = Mimic(warm_up=3).on(scene(honest=np.full((3, 2), 0.1), memory=memory))
        assert (rows == 0.1).all()
    assert all(np.isfinite(value).all() for value in memory.values())


# --- free riders ---


def test_a_free_rider_sends_the_step_between_the_last_two_models():
    rounds = played(FreeRider(noise=0), 5)
    assert not rounds[0][1].any()
    for (before, _), (seen, rows) in pairwise(rounds):
        np.testing.assert_array_equal(rows, [seen.model - before.model] * 2)


def test_the_noise_of_a_free_rider_is_drawn_for_each():
    for text in ("free-rider(noise=2)", "free-rider(kind=noise, noise=2)"):
        seen = scene(honest=np.zeros((1, 4000)), model=np.zeros(4000))
        rows = parse_attack(text).on(seen)
        assert rows.std(axis=1) == pytest.approx([2, 2], rel=0.1)
        assert (rows[0] != rows[1]).all()
    assert not parse_attack("free-rider(kind=zero, noise=2)").on(scene()).any()


# --- poisoned-fl ---


def pushed(rounds, attack):
    """Return the rows of all rounds, by plain loops over coordinates."""
    signs = attack.signs(D).tolist()
    c, v, rows, checked = attack.factor, [0.0] * D, [], None
    models = [seen.model.tolist() for seen, _ in rounds]
    for t, w in enumerate(models):
        if t == 0:
            checked = w
            rows.append(None)
            continue
        g = [a - b for a, b in zip(w, models[t - 1], strict=True)]
        size, before = math.hypot(*g), math.hypot(*v)
        e = [abs(a - b * size / before) if before else abs(a) for a, b in zip(g, v, strict=True)]
        if t % attack.every == 0:
            total = [a - b for a, b in zip(w, checked, strict=True)]
            along = sum(a * s > 0 for a, s in zip(total, signs, strict=True))
            if along < D / 2 + 2.326 * math.sqrt(D) / 2 and attack.decay * c >= 0.5:
                c *= attack.decay
            checked = w
        v = [c * size * a / math.hypot(*e) * s for a, s in zip(e, signs, strict=True)]
        rows.append(v)
    return rows


@pytest.mark.parametrize("every", [1, 3, 50])
def test_poisoned_fl_is_its_formula(every):
    for seed in range(30):
        attack = PoisonedFL(every=every, seed=seed)
        rounds = played(attack, 12, seed)
        np.testing.assert_array_equal(rounds[0][1], rounds[0][0].own)
        for (_, rows), row in zip(rounds[1:], pushed(rounds, attack)[1:], strict=True):
            np.testing.assert_allclose(rows, [row, row], rtol=1e-9)


def test_attackers_that_do_not_know_each_other_send_the_same():
    attack = PoisonedFL()
    models = np.random.default_rng(0).normal(size=(4, D))
    sent = []
    for client in range(3):
        memory, rng = {}, np.random.default_rng(client)
        rows = [
            attack(own, 1, rng, own=own, model=w, memory=memory)
            for w, own in zip(models, rng.normal(size=(4, 1, D)), strict=True)
        ]
        sent.append(rows[1:])
    np.testing.assert_array_equal(sent[0], sent[1])
    np.testing.assert_array_equal(sent[0], sent[2])


def test_the_signs_are_those_of_the_seed():
    assert set(PoisonedFL().signs(100)) == {-1, 1}
    np.testing.assert_array_equal(PoisonedFL(seed=3).signs(50), PoisonedFL(seed=3).signs(50))
    assert (PoisonedFL(seed=3).signs(50) != PoisonedFL(seed=4).signs(50)).any()


def test_the_factor_falls_unless_the_model_goes_along_and_not_below_a_half():
    def factors(step, rounds=40):
        memory, attack = {}, PoisonedFL(every=1)
        seen = []
        for t in range(rounds):
            own = np.ones((1, 400))
            model = step(t) * attack.signs(400)
            attack(own, 1, own=own, model=model, memory=memory)
            seen.append(float(memory["factor"]))
        return seen

    assert set(factors(lambda t: t)) == {8}
    against = factors(lambda t: -t)
    assert against[:3] == [8, 8 * 0.7, 8 * 0.7 * 0.7]
    assert 0.5 <= against[-1] < 0.5 / 0.7
    assert factors(lambda t: 0.0) == against  # what does not move goes along with no sign


def test_the_model_has_to_go_along_since_it_was_looked_at_last():
    memory, attack = {}, PoisonedFL(every=5)
    signs, own, factors = attack.signs(400), np.ones((1, 400)), []
    for place in (0, 10, 20, 30, 40, 50, 49, 48, 47, 46, 45):
        attack(own, 1, own=own, model=place * signs, memory=memory)
        factors.append(float(memory["factor"]))
    assert factors == [8] * 10 + [8 * 0.7]


def test_poisoned_fl_says_nothing_where_the_model_does_what_it_said_or_stands_still():
    for d in (1, D):
        memory, own = {}, np.ones((1, d))
        attack = PoisonedFL()
        for t in range(3):
            row = attack(own, 1, own=own, model=np.zeros(d), memory=memory)
            assert row.any() == (t == 0)
        model = np.ones(d)
        row = attack(own, 1, own=own, model=model, memory=memory)
        assert row.any()
        followed = attack(own, 1, own=own, model=model + row[0], memory=memory)
        assert np.isfinite(followed).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("free-rider(kind=lazy)", "kind is 'lazy', expected 'zero' or 'noise' or 'last-step'"),
        ("free-rider(noise=-1)", "noise is -1, expected a finite number >= 0"),
        ("poisoned-fl(factor=0)", "factor is 0, expected a finite number > 0"),
        ("poisoned-fl(decay=2)", "decay is 2, expected a finite number > 0 and <= 1"),
        ("poisoned-fl(every=0)", "every is 0, expected an integer >= 1"),
        ("poisoned-fl(seed=-1)", "seed is -1, expected an integer >= 0"),
    ],
)
def test_an_illegal_parameter_is_named_with_the_legal_ones(text, message):
    with pytest.raises(ValueError, match=message):
        parse_attack(text)
