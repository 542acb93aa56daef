import numpy as np

from clients import HonestClient, Settings
from clients.root import EXAMPLES, RootLearner


def test_the_server_learns_as_an_honest_client_would_on_its_shard(make_task, initial_parameters):
    task, settings = make_task(300), Settings(num_clients=6, learning_rate=0.3)
    w = initial_parameters(settings)
    learner, client = RootLearner(settings, task), HonestClient(settings, task, 0)
    client.shard, client.num_examples, client.partition_id = learner.shard, EXAMPLES, 6
    for server_round in (1, 2, 3):
        own = learner(w)
        for mine, honest in zip(own, client.propose(w, server_round)[0], strict=True):
            np.testing.assert_array_equal(mine, honest)
        w = own


def test_its_shard_is_small_and_drawn_for_the_run(make_task):
    task = make_task(300)
    shards = [set(RootLearner(Settings(seed=s), task).shard.tolist()) for s in (0, 0, 1)]
    assert len(shards[0]) == EXAMPLES
    assert shards[0] == shards[1] != shards[2]
    few = make_task(40)
    assert set(RootLearner(Settings(num_clients=6), few).shard.tolist()) == set(range(40))


def test_a_resumed_run_goes_on_with_the_mini_batches_of_its_round(make_task, initial_parameters):
    task, settings = make_task(300), Settings(num_clients=6)
    w = initial_parameters(settings)
    whole, resumed = RootLearner(settings, task), RootLearner(settings, task, rounds_done=2)
    third = [whole(w) for _ in range(3)][-1]
    for mine, theirs in zip(resumed(w), third, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_lies_of_the_clients_are_none_of_the_servers(make_task, initial_parameters):
    task = make_task(300)
    honest, attacked = (Settings(num_clients=6, f=2, attack=a) for a in ("none", "gaussian"))
    w = initial_parameters(honest)
    for mine, theirs in zip(
        RootLearner(honest, task)(w), RootLearner(attacked, task)(w), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)
