import dataclasses

import pytest

from simulations.engines.kept import key
from simulations.figures.experiment import FOLDER, NAMES, load_experiment
from simulations.run.config import RunConfig


@pytest.fixture(scope="module", params=NAMES)
def experiment(request):
    return load_experiment(request.param)


def configs_of(name, seeds=1):
    experiment = load_experiment(name)
    return [cell.config for cell in experiment.cells(experiment.rounds, seeds)]


def keys_of(name):
    return {key(config, "embedded") for config in configs_of(name)}


def test_every_file_is_a_figure_and_every_figure_has_a_file():
    assert {path.stem for path in FOLDER.glob("*.toml")} == set(NAMES)


def test_every_file_expands_to_one_legal_run_per_curve_value_panel_and_seed(experiment):
    cells = experiment.cells(experiment.rounds, 3)
    values = len(experiment.sweep.values) if experiment.sweep else 1
    assert len(cells) == len(experiment.curves) * len(experiment.panels) * values * 3
    assert all(isinstance(cell.config, RunConfig) for cell in cells)
    assert len({key(cell.config, "embedded") for cell in cells}) == len(cells)


def test_every_setting_of_every_level_arrives(experiment):
    for cell in experiment.cells(experiment.rounds, 1):
        (curve,) = (c for c in experiment.curves if c.key == cell.curve)
        (panel,) = (p for p in experiment.panels if p.key == cell.panel)
        swept = {experiment.sweep.key: cell.swept} if experiment.sweep else {}
        expected = {**experiment.settings, **panel.settings, **curve.settings, **swept}
        config = cell.config.to_config()
        assert {name: config[name] for name in expected} == expected


def test_every_file_claims_something_and_can_be_judged_at_its_own_length(experiment):
    assert experiment.statements
    for claim in experiment.statements:
        for check in claim.checks:
            for quantity in (check.of, check.against):
                if quantity is not None and quantity.window is not None:
                    (curve,) = (c for c in experiment.curves if c.key == quantity.curve)
                    run = min(experiment.rounds, curve.rounds or experiment.rounds)
                    first, last = quantity.window
                    assert 0 < first < last <= run


def test_the_claims_are_all_those_of_the_papers():
    claimed = [claim.id for name in NAMES for claim in load_experiment(name).statements]
    assert claimed == [
        "2a", "2b", "3a", "3b", "4a", "4b", "4c",
        "5a", "5b", "5c", "5d", "5e", "5f", "5g",
        "M4a", "M4b", "M4c", "M5", "M6a", "M6b", "K1", "K2",
        "A1a", "A1b", "A1c", "A1d", "A1e", "A1f", "A2",
    ]  # fmt: skip


def test_figure_4_is_the_supplements():
    configs = configs_of("4")
    assert {config.rule for config in configs} == {
        "average",
        "krum",
        "multi-krum",
        "medoid",
        "1-p-krum",
    }
    assert {config.settings.attack for config in configs} == {"none"}
    for config in configs:
        settings = config.settings
        assert (settings.task, settings.model, settings.batch_size) == ("spambase", "mlp", 3)
        assert (settings.num_clients, settings.f, config.settings.strict) == (20, 6, True)


def test_figure_5_attacks_with_a_third_of_gaussian_workers_of_variance_200():
    attacked = [c.settings for c in configs_of("5") if c.settings.attack != "none"]
    assert len(attacked) == 5
    assert {(s.attack, s.f, s.gaussian_variance) for s in attacked} == {("gaussian", 6, 200.0)}


def test_figure_5_takes_its_unattacked_curves_from_figure_4():
    peace = {key(c, "embedded") for c in configs_of("5") if c.settings.attack == "none"}
    assert len(peace) == 3
    assert peace <= keys_of("4")


def test_figure_2_is_legal_at_40_and_the_papers_own_at_20():
    of_n = {}
    for config in configs_of("2"):
        if config.rule == "multi-krum":
            of_n.setdefault(config.settings.num_clients, set()).add(
                (config.settings.f, config.settings.strict, config.settings.attack)
            )
    assert of_n == {40: {(18, True, "omniscient")}, 20: {(9, False, "omniscient")}}
    assert {c.settings.batch_size for c in configs_of("2")} == {3, 10, 40}


def test_figure_3_reuses_the_runs_of_figure_2():
    shared = {
        key(config, "embedded")
        for config in configs_of("2")
        if (config.rule, config.settings.attack) != ("average", "omniscient")
    }
    assert shared <= keys_of("3")


def test_k2_is_one_worker_in_one_round():
    (config,) = (c for c in configs_of("K2") if c.rule == "krum")
    settings = config.settings
    assert (settings.f, settings.attack_rounds, settings.omniscient_factor) == (1, 1, 1e6)


def test_folds_multiply_the_runs_of_every_seed(tiny):
    cells = tiny().cells(20, 2, folds=5)
    places = {(c.curve, c.config.settings.seed, c.config.settings.fold) for c in cells}
    assert len(cells) == len(places) == 2 * 2 * 5
    assert {cell.config.settings.folds for cell in cells} == {5}


def test_seeds_may_begin_anywhere(tiny):
    cells = tiny().cells(20, 3, first_seed=5)
    assert [cell.config.settings.seed for cell in cells] == [5, 6, 7] * 2


def test_a_claim_may_ask_for_more_seeds_of_its_own_curves(tiny):
    asked = tiny(**{'minus = "average"\n': "", "[[claim.check]]": "seeds = 5\n[[claim.check]]"})
    seeds = [(cell.curve, cell.config.settings.seed) for cell in asked.cells(20, 0)]
    assert seeds == [*(("krum", s) for s in range(5)), ("average", 0), ("average", 1)]
    # A number on the command line is that of every curve.
    assert len(asked.cells(20, 1)) == 2


def test_a_curve_may_end_early(tiny):
    experiment = tiny(**{'style = "dashed"': "rounds = 5"})
    rounds = {c.curve: c.config.num_server_rounds for c in experiment.cells(20, 1)}
    assert rounds == {"krum": 20, "average": 5}


def test_a_run_that_ends_before_its_first_evaluation_is_refused(tiny):
    with pytest.raises(ValueError, match="rounds is 4, expected at least 5"):
        tiny().cells(4, 1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('y = "accuracy"', 'y = "loss"', "y is 'loss', expected one of"),
        ('x = "round"', 'x = "batch"', "x is 'batch', expected one of"),
        ('"dashed"', '"wavy"', "the style of average is 'wavy', expected one of"),
        ('of = "krum"', 'of = "krumm"', "claim T1: curve is 'krumm', expected one of"),
        ('minus = "average"', 'minos = "average"', r"claim T1: unknown keys \['minos'\]"),
        ('window = "final"', 'window = "end"', "window is 'end', expected one of"),
        ('window = "final"', "", "claim T1: a check takes either 'window' or 'reaches'"),
        ("at_least = 0.0", "", "claim T1: a check needs 'at_least', 'at_most' or 'within'"),
        ("at_least = 0.0", "at = 3\nat_least = 0.0", "claim T1: at is 3, expected one of"),
    ],
)
def test_a_mistake_in_a_file_is_named(tiny, old, new, message):
    with pytest.raises(ValueError, match=message):
        tiny(**{old: new})


def test_a_misspelt_setting_is_named_before_anything_runs(tiny):
    experiment = tiny(**{"num-clients": "num-client"})
    with pytest.raises(ValueError, match=r"unknown run config keys \['num-client'\]"):
        experiment.cells(20, 1)


def test_a_figure_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="figure is '7', expected one of"):
        load_experiment("7")


def test_a_short_run_draws_its_last_fifth(tiny):
    experiment = dataclasses.replace(tiny(), windows={"final": (410, 500)})
    assert experiment.drawn_window(500) == (410, 500)
    assert experiment.drawn_window(100) == (81, 100)
