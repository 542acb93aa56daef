import pytest

from flwr_krum.attacks import ATTACKS
from flwr_krum.rules import RULES
from simulations.arena.plan import NAMES, arena_of, bouts_of, entries, left_out, read_file

SETTINGS = {"num-clients": 8, "f": 2, "evaluate-every": 2}


def arena(rules=("krum",), attacks=("alie",), rounds=6, seeds=2, **changes):
    settings = {**SETTINGS, **{key.replace("_", "-"): v for key, v in changes.items()}}
    return arena_of(rules, attacks, settings, rounds, seeds)


def test_all_are_all_that_are_registered_but_for_those_that_are_said_to_be_left_out():
    plan = arena(["all"], ["all"])
    reasons = left_out(plan)
    assert set(plan.rules) | reasons.keys() & RULES.keys() == RULES.keys()
    assert set(plan.attacks) | reasons.keys() & ATTACKS.keys() == {"none", *ATTACKS}
    assert set(reasons) == {"norm-bounding", "non-finite"}
    assert left_out(arena(["all; norm-bounding"], ["all"])).keys() == {"non-finite"}


def test_where_some_were_asked_for_nothing_is_said_to_be_left_out():
    assert left_out(arena()) == {}
    assert left_out(arena(["all"])).keys() == {"norm-bounding"}


def test_no_attack_is_the_first_column_whether_it_is_named_or_not():
    assert arena(attacks=["alie; gaussian"]).attacks == ("none", "alie", "gaussian")
    assert arena(attacks=["alie", "none"]).attacks == ("none", "alie")
    assert arena(attacks=["all"]).attacks[0] == "none"


def test_semicolons_and_repeated_options_say_the_same_and_nobody_comes_twice():
    once = entries("rules", ["krum ; nnm | median;;krum"], RULES)
    assert once == entries("rules", ["krum", "nnm | median"], RULES) == ("krum", "nnm | median")


def test_the_runs_of_a_seed_differ_in_rule_and_attack_alone():
    bouts = bouts_of(arena(["krum", "median"], ["alie"]))
    assert [(bout.rule, bout.attack) for bout in bouts] == [
        ("krum", "none"), ("krum", "alie"), ("median", "none"), ("median", "alie"),
    ]  # fmt: skip
    for place, seed in enumerate((0, 1)):
        configs = [bout.configs[place].to_config() for bout in bouts]
        different = {key for key in configs[0] if len({str(c[key]) for c in configs}) > 1}
        assert different == {"rule", "attack"}
        assert {config["seed"] for config in configs} == {seed}


def test_a_rule_that_n_and_f_do_not_suffice_for_has_a_reason_instead_of_runs():
    krum, bulyan = bouts_of(arena(["krum", "bulyan"], ["none"]))
    assert (krum.reason, len(krum.configs)) == ("", 2)
    assert bulyan.configs == ()
    assert bulyan.reason.startswith("Bulyan needs n >= 4f + 3, got n=8, f=2; legal: f <= 1")
    assert not bouts_of(arena(["bulyan"], ["none"], strict=False))[0].reason


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rules": ["krun"]}, "did you mean krum?"),
        ({"attacks": ["alie(q=1)"]}, "attack is 'alie"),
        ({"rules": [" ; "]}, "rules are none, expected names or calls with ; between them"),
        ({"rounds": 5}, "rounds is 5, expected a multiple of evaluate-every, which is 2"),
        ({"rounds": 0}, "rounds is 0, expected an integer >= 1"),
        ({"seeds": True}, "seeds is True, expected an integer >= 1"),
        ({"seed": 3}, r"settings hold \['seed'\], which an arena decides by itself"),
        ({"num_client": 3}, r"unknown run config keys \['num-client'\]"),
        ({"split": "dirichle"}, "did you mean dirichlet"),
    ],
)
def test_what_is_no_arena_is_said_before_anything_runs(changes, message):
    with pytest.raises(ValueError, match=message):
        arena(**changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rule = 'krum'", r"unknown keys \['rule'\], expected some of \['rules', "),
        ("rules = 3", "rules is 3, expected a text or a list of texts"),
        ("settings = 3", r"settings is no table, expected \[settings\]"),
        ("rules = ", "Invalid value"),
    ],
)
def test_a_file_that_is_no_arena_is_named_with_what_is_wrong(tmp_path, text, message):
    (tmp_path / "my.toml").write_text(text)
    with pytest.raises(ValueError, match=rf"my\.toml: {message}"):
        read_file(str(tmp_path / "my.toml"))


@pytest.mark.parametrize("name", NAMES)
def test_every_pair_of_an_arena_that_comes_along_can_run(name):
    bouts = bouts_of(arena_of(**read_file(name)))
    assert [bout.reason for bout in bouts if bout.reason] == []
    assert all(len(bout.configs) >= 3 for bout in bouts)


def test_there_is_no_arena_of_another_name():
    with pytest.raises(ValueError, match="arena is 'gamma0', expected one of"):
        read_file("gamma0")
