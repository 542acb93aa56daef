"""Whole runs through both APIs on grids whose nodes drip, hang, die or cannot be read."""

from __future__ import annotations

import logging
import time
from threading import Thread

import pytest
from flwr.app import Message, RecordDict
from flwr.common import ndarrays_to_parameters
from flwr.server import Server, SimpleClientManager
from flwr.supercore.run import RunNotRunningException

import flwr_krum.server.strategy as fit
from tests.flwr_krum.boundary.grids import ScriptedGrid, blocking, gone, raising, silent
from tests.flwr_krum.federations import FakeProxy, FitApi
from tests.flwr_krum.runs import MODEL, NODES, Messages, vector


@pytest.mark.parametrize("nodes", [[10], [10, 14, 19]])
def test_nodes_that_drip_cost_a_round_its_timeout_and_no_honest_reply(play, api, nodes):
    strategy, took, _ = play(dict.fromkeys(nodes, blocking(30.0)))
    (report,) = strategy.reports
    assert report.received == tuple(api.name(n) for n in NODES if n not in nodes)
    assert report.silent == tuple(map(api.name, nodes))
    assert report.failed == {}
    assert report.stepped
    assert 0.6 <= took < 10.0


def test_it_does_not_matter_how_many_threads_flower_asks_from(play, api):
    hostile = NODES[:3]
    strategy, took, _ = play(dict.fromkeys(hostile, blocking(30.0)), workers=1)
    assert strategy.last_report.received == tuple(map(api.name, NODES[3:]))
    assert took < 10.0


def test_who_still_drips_in_the_next_round_is_not_waited_for_again(play, api):
    strategy, took, _ = play({10: blocking(30.0)}, rounds=12, timeout=1.2)
    first, *later = strategy.reports
    assert first.silent == (api.name(10),)
    for report in later:
        assert list(report.failed) == [api.name(10)]
        assert "still sending" in report.failed[api.name(10)]
        assert report.silent == ()
        assert len(report.received) == len(NODES) - 1
    assert took < 12.0


def test_a_node_that_is_gone_is_one_entry_under_its_own_id(play, api):
    strategy, _, _ = play({12: gone, 17: silent}, rounds=2, timeout=0.4)
    for report in strategy.reports:
        assert report.failed == {api.name(12): "Node Unavailable"}
        assert report.silent == (api.name(17),)
        assert len(report.received) == len(NODES) - 2
        assert report.byzantine == 2


def test_a_gone_node_is_found_under_the_operators_name(play):
    def known(client):
        names = {node: f"site {node}" for node in NODES}
        return names[client if isinstance(client, int) else int(client.cid)]

    strategy, _, _ = play({12: gone}, client_id=known)
    assert strategy.last_report.failed == {"site 12": "Node Unavailable"}
    assert strategy.last_report.silent == ()


def test_a_node_that_the_operators_names_do_not_know_goes_by_its_own_id(play, api):
    def known(client):
        return {node: f"site {node}" for node in NODES[1:]}[
            client if isinstance(client, int) else int(client.cid)
        ]

    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logging.getLogger("flwr").addHandler(handler)
    strategy, _, _ = play({}, client_id=known, rounds=2)
    logging.getLogger("flwr").removeHandler(handler)
    assert strategy.last_report.received == (
        api.name(10),
        *(f"site {node}" for node in NODES[1:]),
    )
    said = [line for line in lines if "goes by that id" in line]
    assert said == ["client_id raises KeyError: 10 for client 10, which goes by that id"]


class DecodeError(Exception):
    pass


def test_what_cannot_be_read_is_a_failure_with_a_name_and_ends_nothing(play, api):
    strategy, _, _ = play({13: raising(DecodeError("Error parsing\nmessage"))}, rounds=2)
    for report in strategy.reports:
        assert list(report.failed) == [api.name(13)]
        assert "DecodeError: Error parsing\\nmessage" in report.failed[api.name(13)]
        assert report.stepped
        assert report.silent == ()


def test_content_that_is_no_result_is_an_entry_under_the_nodes_own_id(play, api):
    strategy, _, _ = play({13: lambda grid, message: Message(RecordDict(), reply_to=message)})
    report = strategy.last_report
    named = [*report.failed, *(refused.client for refused in report.refused)]
    assert named == [api.name(13)]
    assert report.silent == ()


def test_an_evaluation_ends_when_it_is_due_as_well(play):
    def drips_in_evaluation(grid, message):
        if message.metadata.message_type == "evaluate":
            grid.ended.wait(30.0)
        return grid.answer(message)

    strategy, took, _ = play({10: drips_in_evaluation}, fraction_evaluate=1.0)
    assert len(strategy.last_report.received) == len(NODES)
    assert 0.6 <= took < 10.0


@pytest.mark.parametrize("calls", range(1, 6))
def test_a_node_that_leaves_between_counting_and_sampling_stops_nobody(api, calls):
    class Leaving(ScriptedGrid):
        counted = 0

        def get_node_ids(self):
            self.counted += 1
            return super().get_node_ids()[: None if self.counted <= calls else -1]

    grid = Leaving(NODES, api.answer)
    ran = []

    def run():
        ran.append(api.run(grid, rounds=2, timeout=5.0, fraction_evaluate=1.0))

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(20.0)
    grid.ended.set()
    assert len(ran) == 1
    # Through aggregate_fit Flower gives up a round that it cannot sample, and goes on.
    assert len(ran[0].reports) == 2 if api is Messages else ran[0].reports


def test_a_run_that_is_stopped_ends(api):
    class Stopped(ScriptedGrid):
        stopped = False

        def get_node_ids(self):
            if self.stopped:
                raise RunNotRunningException
            return super().get_node_ids()

        def pull_messages(self, ids):
            self.stopped = True
            raise RunNotRunningException

    with pytest.raises(RunNotRunningException):
        api.run(Stopped(NODES, api.answer), rounds=3, timeout=5.0, fraction_evaluate=0.0)


def test_a_superlink_that_is_gone_ends_the_run(api):
    class Dead(ScriptedGrid):
        dead = False

        def get_node_ids(self):
            nodes = super().get_node_ids()
            if self.dead:
                raise ConnectionError("connection refused")
            return nodes

        def pull_messages(self, ids):
            self.dead = True
            raise ConnectionError("connection refused")

    grid = Dead(NODES, api.answer)
    with pytest.raises(ConnectionError, match="connection refused"):
        api.run(grid, rounds=3, timeout=5.0, fraction_evaluate=0.0)
    grid.ended.set()


# --- clients that are no nodes of a grid ---


def serve(slow=(), timeout=0.5, seconds=0.7, **options):
    class Client(FakeProxy):
        def fit(self, ins, timeout, group_id):
            if self.cid in slow:
                time.sleep(seconds)
            if self.cid == "3":
                raise RuntimeError("crashed\nhard")
            return FitApi().result([vector(int(self.cid))])

    manager = SimpleClientManager()
    for i in range(1, 11):
        manager.register(Client(str(i)))
    strategy = fit.MultiKrum(
        num_malicious_clients=2,
        initial_parameters=ndarrays_to_parameters(MODEL),
        fraction_evaluate=0.0,
        **options,
    )
    begin = time.monotonic()
    Server(client_manager=manager, strategy=strategy).fit(num_rounds=1, timeout=timeout)
    return strategy.last_report, time.monotonic() - begin


def test_a_clients_exception_is_a_failure_under_its_own_name():
    report, _ = serve()
    assert report.failed == {"3": "crashed\\nhard"}
    assert report.silent == ()
    assert len(report.received) == 9


def test_a_client_that_hangs_is_waited_for_until_the_timeout():
    report, took = serve(slow=("5",), seconds=12.0)
    assert report.silent == ("5",)
    assert report.failed == {"3": "crashed\\nhard"}
    assert len(report.received) == 8
    assert took < 10.0


def test_without_a_timeout_a_client_is_waited_for_as_flower_does():
    report, _ = serve(slow=("5",), timeout=None)
    assert report.silent == ()
    assert len(report.received) == 9


def test_the_clients_of_a_round_look_like_those_that_flower_knows():
    class Client(FakeProxy):
        node_id = 77
        mine = "kept"

    strategy = fit.Krum(num_malicious_clients=0, client_id=lambda client: client.mine)
    manager = SimpleClientManager()
    for i in range(3):
        manager.register(Client(str(i)))
    parameters = ndarrays_to_parameters(MODEL)
    ((client, _), *_) = strategy.configure_fit(1, parameters, manager)
    assert (client.node_id, client.mine, client.properties) == (77, "kept", {})
    assert client.cid in {"0", "1", "2"}
