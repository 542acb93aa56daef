"""What every attack is, driven over all that have a name."""

import numpy as np
import pytest

from flwr_krum.attacks import ATTACKS, WRAPPERS, Attack, Scene
from flwr_krum.attacks.attack import KNOWLEDGE, MEANINGS, trigger_of
from flwr_krum.attacks.written import parse_attack, written
from flwr_krum.rules import TrimmedMean

H, D, F = 7, 5, 2


def scene(seed=0, f=F, **changes):
    """Return what an adversary sees that sees everything."""
    rng = np.random.default_rng(seed)
    seen = {
        "honest": rng.normal(size=(H, D)),
        "f": f,
        "rng": np.random.default_rng(seed + 1),
        "n": H + f,
        "own": rng.normal(size=(f, D)),
        "model": rng.normal(size=D),
        "gradient": rng.normal(size=D),
        "rule": TrimmedMean(f),
        "memory": {},
    }
    return Scene(**{**seen, **changes})


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_sends_f_rows_of_floats_and_leaves_what_it_sees_alone(name):
    for f in (1, 2):
        seen = scene(f=f)
        before = seen.honest.copy(), seen.own.copy(), seen.model.copy()
        rows = parse_attack(name).on(seen)
        assert rows.shape == (f, D)
        assert rows.dtype == np.float64
        for array, old in zip((seen.honest, seen.own, seen.model), before, strict=True):
            np.testing.assert_array_equal(array, old)
        rows[:] = 0.0  # nobody else holds these numbers
        np.testing.assert_array_equal(seen.honest, before[0])


@pytest.mark.parametrize("name", ATTACKS)
def test_equal_scenes_get_equal_rows(name):
    np.testing.assert_array_equal(parse_attack(name).on(scene()), parse_attack(name).on(scene()))


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_that_lacks_what_it_needs_says_what(name):
    attack = parse_attack(name)
    for need in attack.needs:
        with pytest.raises(ValueError, match=f"{type(attack).__name__} needs {MEANINGS[need]}"):
            attack.on(scene(**{need: None}))


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_needs_nothing_but_what_it_declares(name):
    attack = parse_attack(name)
    unseen = {need: None for need in MEANINGS if need not in attack.needs}
    np.testing.assert_array_equal(attack.on(scene(**unseen)), parse_attack(name).on(scene()))


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_written_as_it_is_read(name):
    attack = parse_attack(name)
    assert written(attack) == name
    assert parse_attack(written(attack)) == attack


@pytest.mark.parametrize("name", [*ATTACKS, *WRAPPERS])
def test_an_attack_says_of_itself_what_a_page_needs(name):
    kind = {**ATTACKS, **WRAPPERS}[name]
    facts = kind.facts
    assert all((facts.source, facts.formula, facts.breaks, facts.resists))
    if name in ATTACKS:
        assert parse_attack(name).knowledge in KNOWLEDGE


class Half(Attack):
    def rows(self, scene):
        return scene.mean / 2


class Crooked(Attack):
    def rows(self, scene):
        return np.zeros(3)


def test_one_row_is_sent_by_all():
    honest = np.random.default_rng(0).normal(size=(H, D))
    np.testing.assert_array_equal(Half()(honest, 3), np.tile(honest.mean(axis=0) / 2, (3, 1)))


def test_rows_of_another_shape_are_an_error():
    with pytest.raises(ValueError, match=r"Crooked sends rows of shape \(3,\), expected \(2, 5\)"):
        Crooked().on(scene())


@pytest.mark.parametrize("honest", [np.zeros(3), np.zeros((0, 3))])
def test_an_adversary_that_sees_no_update_is_an_error(honest):
    with pytest.raises(ValueError, match=r"expected honest updates \(h, d\), h >= 1, got shape"):
        Half()(honest, 1)


def test_without_an_attacker_there_is_no_row():
    assert Half()(np.ones((2, 3)), 0).shape == (0, 3)


def test_numbers_that_no_float_holds_are_sent_as_infinite(recwarn):
    rows = parse_attack("sign-flip(scale=1e300)").on(scene(own=np.full((F, D), 1e300)))
    assert np.isinf(rows).all()
    assert not recwarn.list


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sign-flop", "attack is 'sign-flop': there is no 'sign-flop', expected one of gaussian"),
        ("sign-flip(scale=-1)", "sign-flip: scale is -1, expected a finite number >= 0"),
        ("sign-flip(size=1)", "it takes scale=1.0, of=own"),
        ("sign-flip(of=all)", "of is 'all', expected 'own' or 'mean'"),
        ("gaussian | sign-flip", "what stands before a | decides when the attack behind it"),
        ("pathlib:Path", "pathlib:Path is no subclass of flwr_krum.attacks.attack.Attack"),
        (3, "attack is 3: expected a text"),
    ],
)
def test_what_is_no_attack_is_named(text, message):
    with pytest.raises(ValueError, match=message.replace("|", r"\|").replace(".", r"\.")):
        parse_attack(text)


def test_an_attack_of_ones_own_is_read_from_its_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import dataclass\n"
        "from flwr_krum.attacks import Attack\n\n\n"
        "@dataclass(frozen=True)\n"
        "class Thrice(Attack):\n"
        "    times: float = 3.0\n\n"
        "    def rows(self, scene):\n"
        "        return -self.times * scene.mean\n"
    )
    attack = parse_attack(f"{file}:Thrice(times=2)")
    seen = scene()
    np.testing.assert_array_equal(attack.on(seen), np.tile(-2 * seen.honest.mean(axis=0), (2, 1)))


@pytest.mark.parametrize(
    ("text", "marks"),
    [("backdoor", True), ("on-off(start=3) | backdoor", True), ("label-flip", False)],
)
def test_an_attack_that_marks_examples_is_known_also_behind_others(text, marks):
    trigger = trigger_of(parse_attack(text))
    assert (trigger is not None) is marks
    if trigger is not None:
        assert trigger.triggered(np.zeros((2, 1, 8, 8)) + np.eye(8)).shape == (2, 1, 8, 8)
    assert trigger_of(None) is None
