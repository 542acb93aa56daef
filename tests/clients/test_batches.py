import numpy as np
import pytest

from clients.batches import Batches
from clients.honest import HonestClient
from clients.settings import Settings
from clients.streams import Purpose, Streams, seeds, stream
from clients.tasks import load_task


def _clients(**keys):
    settings = Settings(num_clients=7, **keys)
    task = load_task(settings)
    return [HonestClient(settings, task, i) for i in range(7)]


@pytest.mark.parametrize("server_round", [1, 700, 699, 2**32 - 1, 2**32, 2**64])
def test_streams_at_many_places_are_those_of_their_names(server_round):
    streams = Streams(2**32 - 1, Purpose.ATTACK, [3, 5, 2**32 - 1])
    found = [np.random.Generator(bits) for bits in streams.bits([2, 0], server_round)]
    wanted = [stream(2**32 - 1, Purpose.ATTACK, i, server_round) for i in (2**32 - 1, 3)]
    for ours, named in zip(found, wanted, strict=True):
        assert (ours.standard_normal(5) == named.standard_normal(5)).all()


def test_seeds_are_those_of_numpys_seed_sequence():
    names = np.random.default_rng(0).integers(2**32, size=(50, 4), dtype=np.uint32)
    names[0], names[1] = 0, 2**32 - 1
    wanted = [np.random.SeedSequence(name).generate_state(4, np.uint64) for name in names]
    assert (seeds(names) == wanted).all()


@pytest.mark.parametrize("size", [1, 3, 8])
@pytest.mark.parametrize("steps", [1, 3])
def test_clients_draw_together_what_each_draws_for_itself(size, steps):
    clients = _clients(batch_size=size, local_steps=steps, seed=2**32 - 1)
    batches = Batches(clients)
    assert batches._agrees
    for server_round in (1, 2, 300, 299, 2**31, 2**32 - 1, 2**32, 2**70):
        group = [5, 0, 3]
        wanted = [list(clients[i].draws(server_round)) for i in group]
        drawn = batches.drawn(group, server_round)
        assert drawn.dtype == np.int64
        assert (drawn.swapaxes(0, 1) == wanted).all()


def test_draws_that_take_another_word_are_those_of_numpy():
    """For 2^31 + 1 examples a stream's word is no draw in every second case."""
    clients = _clients(batch_size=3, local_steps=2)
    for client in clients:
        client.num_examples = 2**31 + 1
    wanted = [list(client.draws(4)) for client in clients]
    batches = Batches(clients)
    assert batches._agrees
    assert (batches.drawn(range(7), 4).swapaxes(0, 1) == wanted).all()


def test_where_numpy_draws_otherwise_every_client_draws_for_itself(monkeypatch):
    clients = _clients(batch_size=3)
    monkeypatch.setattr(HonestClient, "draws", lambda self, t: iter([np.full(3, t)]))
    assert (Batches(clients).drawn([0, 1], 9) == np.full((1, 2, 3), 9)).all()
