import typer
from typer.testing import CliRunner

from simulations.run.config import run_config_defaults, run_settings
from simulations.show.options import with_settings


def called_with(*arguments, **given):
    """What a command gets whose options are made of settings."""
    got = []

    def command(options: dict, extra: int = 1) -> None:
        """Do it."""
        got.append((options, extra))

    app = typer.Typer()
    app.command()(with_settings(**given)(command))
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return got[0] if got else result.output


def test_each_setting_is_an_option_with_its_default():
    names = list(run_settings())
    assert called_with(names=names) == (run_config_defaults(), 1)


def test_an_option_may_have_another_name_and_default_and_others_stand_beside_it():
    given = {
        "names": ("num_clients", "f", "rule"),
        "defaults": {"f": 3},
        "called": {"num_clients": "--nodes"},
    }
    assert called_with("--nodes", "9", "--extra", "4", **given) == (
        {"num-clients": 9, "f": 3, "rule": "multi-krum"},
        4,
    )


def test_the_help_has_every_settings_own_words_bounds_and_choices():
    def command(options: dict) -> None:
        """Do it."""

    app = typer.Typer()
    app.command()(with_settings(("num_server_rounds", "round_timeout", "api", "resume"))(command))
    made = typer.main.get_command(app)
    rounds, timeout, api, resume, *_ = made.params
    assert made.help == "Do it."
    assert (rounds.opts, rounds.help, rounds.default) == (["--rounds"], "Rounds.", 500)
    assert str(rounds.type) == "<IntRange x>=1>"
    assert str(timeout.type) == "<FloatRange x>0>"
    assert api.type.choices == ("message", "fit")
    assert (resume.opts, resume.secondary_opts) == (["--resume"], ["--no-resume"])
