"""Real rounds that close at a quorum: a node that hangs holds none of them until its timeout."""

import pytest

from tests.simulations.real.hanging import HANGING, TIMEOUT, is_missed, run_with_a_hanging_node

pytestmark = [pytest.mark.flower, pytest.mark.slow]

QUORUM, ROUNDS = 5, 10


@pytest.mark.parametrize("api", ["message", "fit"])
def test_a_node_that_hangs_holds_no_round_until_its_timeout_and_is_named_and_heard_again(
    federation, folder, config, api
):
    options = {"num_server_rounds": ROUNDS, "quorum": QUORUM, "round_timeout": TIMEOUT}
    made = config(folder / api, f=1, api=api, **options)
    reports = run_with_a_hanging_node(federation, made)
    assert len(reports) == ROUNDS
    for report in reports:
        assert report.stepped
        assert report.byzantine == 1
        assert len(report.received) >= QUORUM
        assert set(report.arrived) == set(report.received)
        assert max(report.arrived.values()) < TIMEOUT
        assert not {*report.late} & {*report.received}
        assert report.silent == ()
    first = next(report.server_round for report in reports if is_missed(report))
    assert any(HANGING in report.received for report in reports[first:])
