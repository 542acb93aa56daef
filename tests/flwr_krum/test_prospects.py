"""What a strategy says at its start of the rounds to come, and what is left of rounds that fail."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord

import flwr_krum.serverapp.strategy as messages
from flwr_krum import in_force
from flwr_krum.boundary.npy import UndecodableError
from flwr_krum.rules import Average, Krum
from tests.flwr_krum.boundary.grids import ScriptedGrid, silent
from tests.flwr_krum.runs import MODEL, NODES, Fit, Messages


@pytest.fixture(params=[Messages, Fit], ids=["serverapp", "server"])
def api(request):
    return request.param


@pytest.fixture
def said():
    """What Flower's log says, as (level, text)."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append((record.levelname, record.getMessage()))
    logging.getLogger("flwr").addHandler(handler)
    yield lines
    logging.getLogger("flwr").removeHandler(handler)


def sampling(api, fraction=1.0, least=2, available=2):
    if api is Messages:
        names = ("fraction_train", "min_train_nodes", "min_available_nodes")
    else:
        names = ("fraction_fit", "min_fit_clients", "min_available_clients")
    return dict(zip(names, (fraction, least, available), strict=True))


def prospects(api, said, n, rounds=0, **options):
    """Start a run on n nodes; return the level and the text of what it says of its replies."""
    grid = ScriptedGrid(range(10, 10 + n), api.answer)
    api.run(grid, rounds=rounds, fraction_evaluate=0.0, **options)
    grid.ended.set()
    found = [(level, text.split("Replies: ")[1]) for level, text in said if "Replies: " in text]
    assert len(found) == 1
    return found[0]


def test_the_start_says_how_many_replies_may_be_lost(api, said):
    level, text = prospects(api, said, 20, f=6)
    assert level == "INFO"
    assert text == "of 20 clients 20 are asked, 15 replies are needed (f=6): 5 may be lost"


def test_it_warns_where_no_reply_may_be_lost(api, said):
    level, text = prospects(api, said, 7, f=2)
    assert level == "WARNING"
    assert "of 7 clients 7 are asked, 7 replies are needed (f=2): none may be" in text
    assert 'on_infeasible="degrade"' in text


def test_four_clients_and_f_1_are_told_before_the_first_round_that_none_will_do(api, said):
    level, text = prospects(api, said, 4, f=1, rounds=1)
    assert level == "WARNING"
    assert "of 4 clients 4 are asked, 5 replies are needed (f=1): every round is sk" in text
    assert all(name in text for name in list(sampling(api))[1:])
    index = [i for i, (_, line) in enumerate(said) if "Replies: " in line]
    assert index[0] < next(i for i, (_, line) in enumerate(said) if "ROUND 1" in line)


def test_a_fraction_that_asks_too_few_is_told(api, said):
    level, text = prospects(api, said, 20, f=3, **sampling(api, fraction=0.4))
    assert level == "WARNING"
    assert text.startswith("of 20 clients 8 are asked, 9 replies are needed (f=3): ever")
    said.clear()
    level, text = prospects(api, said, 20, f=3, **sampling(api, fraction=0.5))
    assert (level, text[-13:]) == ("INFO", "1 may be lost")


def test_a_minimum_beyond_the_fraction_counts(api, said):
    level, text = prospects(api, said, 20, f=3, **sampling(api, 0.1, 12, 12))
    assert level == "INFO"
    assert text.startswith("of 20 clients 12 are asked, 9 replies")


def test_where_no_round_trains_nothing_is_said_of_replies(api, said):
    grid = ScriptedGrid(range(10, 14), api.answer)
    api.run(grid, rounds=0, fraction_evaluate=0.0, f=1, **sampling(api, 0.0, 0))
    grid.ended.set()
    assert said
    assert not [text for _, text in said if "Replies: " in text]


@pytest.mark.parametrize(
    ("mode", "fate"), [("skip", "skipped"), ("raise", "an error"), ("degrade", "degraded")]
)
def test_it_says_what_becomes_of_the_rounds(api, said, mode, fate):
    _, text = prospects(api, said, 4, f=1, on_infeasible=mode)
    assert f"every round is {fate}" in text


def test_an_f_that_is_left_out_follows_the_replies(api, said):
    level, text = prospects(api, said, 20, f=None)
    assert level == "INFO"
    needed = "5 replies are needed (f follows their number): 15 may be lost"
    assert text == f"of 20 clients 20 are asked, {needed}"


def test_a_rule_that_insists_on_nothing_can_lose_all_replies_but_one():
    for rule in (Average(), Krum(9, strict=False)):
        can_lose, text = in_force.prospects(rule, "skipped", 4)
        assert can_lose
        assert "1 replies are needed" in text
        assert text.endswith("3 may be lost")


def test_the_summary_alone_goes_by_what_the_sampling_waits_for(said):
    messages.Krum(num_malicious_nodes=2, min_train_nodes=9, min_available_nodes=9).summary()
    assert any("Replies: of 9 clients 9 are asked, 7 replies" in text for _, text in said)


def test_a_round_that_is_skipped_says_what_one_can_do(api, said):
    grid = ScriptedGrid(NODES[:4], api.answer)
    strategy = api.run(grid, f=1, fraction_evaluate=0.0)
    grid.ended.set()
    note = strategy.last_report.note
    assert "got n=4, f=1; legal: f <= 0 at n=4, or n >= 5 at f=1" in note
    assert 'on_infeasible="degrade" goes on without the bound on f' in note


# --- the result of a run ---


def test_the_result_is_the_initial_model_where_every_round_was_skipped():
    grid = ScriptedGrid(NODES, Messages.answer, dict.fromkeys(NODES, silent))
    strategy = messages.MultiKrum(num_malicious_nodes=1, fraction_evaluate=0.0)
    initial = ArrayRecord(MODEL)
    result = strategy.start(grid, initial, num_rounds=2, timeout=0.1)
    assert not any(report.stepped for report in strategy.reports)
    assert result.arrays is initial


def test_the_result_is_the_initial_model_of_no_round_at_all():
    initial = ArrayRecord(MODEL)
    strategy = messages.MultiKrum(num_malicious_nodes=1)
    assert strategy.start(ScriptedGrid(NODES), initial, num_rounds=0).arrays is initial


def test_the_result_is_the_last_model_where_a_round_has_moved_it():
    strategy = messages.MultiKrum(num_malicious_nodes=1, fraction_evaluate=0.0)
    grid = ScriptedGrid(NODES, Messages.answer)
    result = strategy.start(grid=grid, initial_arrays=ArrayRecord(MODEL), num_rounds=1)
    assert np.abs(result.arrays["0"].numpy() - 1).max() < 0.1


def test_an_initial_model_that_cannot_be_read_is_a_sentence_before_anything_happens():
    grid = ScriptedGrid(NODES, Messages.answer)
    garbage = ArrayRecord({"w": Array("float32", (1,), "numpy.ndarray", b"garbage")})
    with pytest.raises(UndecodableError, match="global model, array 'w': "):
        messages.Krum(num_malicious_nodes=1).start(
            grid, garbage, evaluate_fn=lambda *_: pytest.fail("evaluated")
        )
    assert grid.sent == {}
