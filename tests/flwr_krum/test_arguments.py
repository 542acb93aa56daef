"""What help() says of the strategies' arguments."""

import inspect
import pydoc
import re

import flwr.server.strategy as flower_fit
import flwr.serverapp.strategy as flower_messages
import pytest

import flwr_krum.server.strategy as fit
import flwr_krum.serverapp.strategy as messages
from flwr_krum.settings import RoundOptions

NAMES = (
    "RobustAggregation", "Krum", "MultiKrum", "Medoid", "OneMinusPKrum",
    "Bulyan", "FedMedian", "FedTrimmedAvg",
)  # fmt: skip
STRATEGIES = [getattr(module, name) for module in (messages, fit) for name in NAMES]
OF_ROUNDS = set(RoundOptions.__annotations__)


def flowers(cls):
    module = flower_messages if cls.__module__ == messages.__name__ else flower_fit
    return inspect.signature(module.FedAvg).parameters


@pytest.mark.parametrize("cls", STRATEGIES, ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
def test_the_signature_names_every_argument_with_its_default(cls):
    parameters = inspect.signature(cls).parameters
    assert {"client_id", *OF_ROUNDS, *flowers(cls)} <= set(parameters)
    assert parameters["on_infeasible"].default == "skip"
    assert all(parameters[name].default == theirs.default for name, theirs in flowers(cls).items())
    assert ("rule" in parameters) == (cls.__name__ == "RobustAggregation")
    assert not any(p.kind is p.VAR_KEYWORD for p in parameters.values())


@pytest.mark.parametrize("cls", STRATEGIES, ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
def test_the_docstring_describes_every_argument_once_and_refers_to_no_other(cls):
    text = inspect.getdoc(cls)
    for name in inspect.signature(cls).parameters.keys() - {"sampling"}:
        assert text.count(f"\n{name} : ") == 1, name
    assert text.count("\nOther Parameters\n----------------\n") == 1
    assert "As for" not in text
    assert text.startswith(cls.__doc__.splitlines()[0])


def test_help_prints_what_flower_says_of_its_own_arguments():
    text = pydoc.plain(pydoc.render_doc(messages.MultiKrum))
    assert "Minimum number of nodes used during training." in text
    assert "it never weighs a model" in text
    assert "performs a weighted" not in text  # what Flower makes of metrics, and we do not


def test_start_keeps_the_types_of_flowers_own():
    ours, theirs = (
        inspect.signature(cls.start, eval_str=True)
        for cls in (messages.MultiKrum, flower_messages.FedAvg)
    )
    assert ours == theirs


def test_a_class_of_ones_own_hands_on_what_it_says_it_does():
    class Named(messages.MultiKrum):
        """Mine."""

        def __init__(self, name, **options):
            super().__init__(**options)

    class Closed(messages.MultiKrum):
        """Mine."""

        def __init__(self, name):
            super().__init__()

    assert list(inspect.signature(Closed).parameters) == ["name"]
    assert Closed.__doc__ == "Mine."
    parameters = inspect.signature(Named).parameters
    assert next(iter(parameters)) == "name"
    assert {"num_malicious_nodes", "quarantine", "fraction_train"} <= set(parameters)
    assert "num_malicious_nodes : int" in Named.__doc__


@pytest.mark.parametrize(
    ("strategy", "wrong", "right"),
    [
        (messages.MultiKrum, "num_malicious_clients", "num_malicious_nodes"),
        (messages.Krum, "fraction_fit", "fraction_train"),
        (fit.MultiKrum, "num_malicious_nodes", "num_malicious_clients"),
        (fit.FedMedian, "quorun", "quorum"),
    ],
)
def test_an_argument_of_the_other_api_is_named_with_what_it_is_here(strategy, wrong, right):
    text = f"{strategy.__name__} takes no argument {wrong}, did you mean {right}?"
    with pytest.raises(TypeError, match=re.escape(text)):
        strategy(**{wrong: 1})
    with pytest.raises(TypeError, match=r"takes no argument zzz; help\(.*\) has all"):
        strategy(zzz=1)
