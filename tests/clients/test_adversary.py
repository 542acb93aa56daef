"""The Byzantine client: what it sees, what it sends, and that all ways to compute it agree."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
from flwr.app import RecordDict

from clients import HonestClient, Settings, build_model
from clients.adversary import Adversary
from clients.cohort import Cohort
from clients.collusion import floats
from clients.memory import ContextMemory
from clients.roles import client_of, role_of
from flwr_krum.attacks import Attack
from flwr_krum.rules import MultiKrum

N, F = 7, 2


def updates_of(settings, task, partitions, w, server_round=1):
    answers = (HonestClient(settings, task, i).propose(w, server_round)[0] for i in partitions)
    return np.stack([floats(answer) - floats(w) for answer in answers])


@dataclass(frozen=True)
class Watch(Attack):
    """Sends nothing and lets a test look at what it sees."""

    knowledge: str = "all"
    needs: frozenset = frozenset()

    def rows(self, scene):
        Watch.last = scene
        return np.zeros((scene.f, scene.honest.shape[1]))


@pytest.mark.parametrize(
    ("knowledge", "partition", "shown", "f"),
    [
        ("all", 5, range(5), 2),
        ("colluding", 6, (5, 6), 2),
        ("own", 6, (6,), 1),
        ("all", 0, range(1, 7), 1),  # a red-team node that none of the run's attackers knows
    ],
)
def test_an_adversary_sees_the_updates_of_the_shards_it_knows(
    make_task, initial_parameters, knowledge, partition, shown, f
):
    settings, task = Settings(num_clients=N, f=F, learning_rate=0.3), make_task(40)
    w = initial_parameters(settings)
    needs = frozenset({"own", "model", "rule", "n", "memory", "gradient"})
    client = Adversary(settings, task, partition, Watch(knowledge, needs))
    client.propose(w, 2)
    scene = Watch.last
    np.testing.assert_array_equal(scene.honest, updates_of(settings, task, shown, w, 2))
    own = (5, 6) if f == 2 else (partition,)
    np.testing.assert_array_equal(scene.own, updates_of(settings, task, own, w, 2))
    np.testing.assert_array_equal(scene.model, floats(w))
    assert (scene.f, scene.n, scene.server_round, scene.rate) == (f, N, 2, 0.3)
    assert scene.rule == MultiKrum(F)


def test_the_setting_knowledge_wins_over_the_attacks_own(make_task, initial_parameters):
    task = make_task(40)
    for knowledge, rows in (("own", 1), ("colluding", 2), ("all", 5), ("default", 5)):
        settings = Settings(num_clients=N, f=F, knowledge=knowledge)
        Adversary(settings, task, 6, Watch()).propose(initial_parameters(settings), 1)
        assert len(Watch.last.honest) == rows


def test_the_attackers_send_the_rows_of_one_attack_each_its_own(make_task, initial_parameters):
    settings = Settings(num_clients=N, f=F)
    task, w = make_task(40), initial_parameters(settings)
    attack = Numbered()
    sent = [floats(Adversary(settings, task, i, attack).propose(w, 1)[0]) for i in (5, 6)]
    mean = updates_of(settings, task, range(5), w).mean(axis=0)
    for i, model in enumerate(sent):
        np.testing.assert_allclose(model - floats(w), (i + 1) * mean, atol=1e-6)


@dataclass(frozen=True)
class Numbered(Attack):
    def rows(self, scene):
        return np.stack([(i + 1) * scene.mean for i in range(scene.f)])


ALL_KINDS = [
    "gaussian", "sign-flip(scale=3)", "sign-flip(of=mean)", "omniscient(factor=3)",
    "malformed(fault=one-nan)",
]  # fmt: skip


@pytest.mark.parametrize("attack", ALL_KINDS)
@pytest.mark.parametrize(
    "learning",
    [
        {},
        {"momentum": 0.9},
        {"momentum": 0.5, "weight_decay": 0.01, "clip_norm": 0.1, "local_steps": 3},
        {"local_epochs": 2, "momentum": 0.5},
    ],
)
@pytest.mark.parametrize(("task_name", "model"), [("spambase", "mlp"), ("mnist", "convnet")])
def test_a_cohort_answers_as_its_clients_would_alone_for_rounds_on_end(
    make_task, initial_parameters, attack, learning, task_name, model
):
    settings = Settings(task=task_name, model=model, num_clients=N, f=F, attack=attack, **learning)
    task, w = make_task(31, task_name), initial_parameters(settings)

    def team():
        return [client_of(settings, task, i, role_of(settings, i, {})) for i in range(N)]

    alone, together = team(), Cohort(team())
    for server_round in (1, 2, 3):
        expected = [client.propose(w, server_round) for client in alone]
        found = together.propose(range(N), w, server_round)
        for (arrays, loss), (own, own_loss) in zip(found, expected, strict=True):
            assert loss == pytest.approx(own_loss, abs=1e-5)
            for array, other in zip(arrays, own, strict=True):
                np.testing.assert_allclose(array, other, rtol=1e-5, atol=2e-6)
        layers = zip(*(arrays for arrays, _ in expected[: N - F]), strict=True)
        w = [np.mean(layer, axis=0, dtype=np.float32) for layer in layers]


def test_momentum_is_the_running_mean_of_the_gradients(make_task, initial_parameters):
    settings = Settings(num_clients=2, momentum=0.9, learning_rate=1.0)
    plain = Settings(num_clients=2, learning_rate=1.0)
    task, w = make_task(20), [a.astype(np.float64) for a in initial_parameters(settings)]
    client, m = HonestClient(settings, task, 0), 0.0
    for server_round in range(1, 6):
        gradient = -updates_of(plain, task, [0], w, server_round)[0]
        m = 0.9 * m + 0.1 * gradient
        new, _ = client.propose(w, server_round)
        np.testing.assert_allclose(floats(w) - floats(new), m, atol=1e-6)
        w = new


def test_a_momentum_over_the_steps_of_a_round_begins_anew_in_the_next(
    make_task, initial_parameters
):
    common = {"num_clients": 2, "local_steps": 3, "momentum": 0.9}
    task, w = make_task(20), initial_parameters(Settings())
    fresh = [HonestClient(Settings(**common), task, 0).learn(w, t, None).arrays for t in (1, 2)]
    client = HonestClient(Settings(momentum_over="steps", **common), task, 0)
    for t, expected in enumerate(fresh, 1):
        found, _ = client.propose(w, t)
        assert [a.tobytes() for a in found] == [a.tobytes() for a in expected]
    assert client.memory == {}
    assert not client.settings.remembers


@pytest.mark.parametrize("most", [1e-3, 1e3])
def test_a_gradient_is_cut_to_its_norm_and_decayed_by_the_weights(
    make_task, initial_parameters, most
):
    usual = {"num_clients": 2, "learning_rate": 1.0}
    task, w = make_task(20), initial_parameters(Settings())
    gradient = -updates_of(Settings(**usual), task, [0], w)[0]
    cut = -updates_of(Settings(clip_norm=most, **usual), task, [0], w)[0]
    norm = np.linalg.norm(gradient)
    np.testing.assert_allclose(cut, gradient * min(1.0, most / norm), atol=1e-6)
    decayed = -updates_of(Settings(weight_decay=0.1, **usual), task, [0], w)[0]
    np.testing.assert_allclose(decayed, gradient + 0.1 * floats(w), atol=1e-6)


def test_local_epochs_see_every_example_once_each(make_task):
    task = make_task(41)
    client = HonestClient(Settings(num_clients=4, batch_size=4, local_epochs=3), task, 0)
    drawn = list(client.draws(1))
    assert [len(batch) for batch in drawn] == [4, 4, 3] * 3
    for epoch in range(3):
        assert sorted(np.concatenate(drawn[3 * epoch : 3 * epoch + 3])) == list(range(11))


def test_a_memory_lies_in_the_state_of_a_context(make_task, initial_parameters):
    settings = Settings(num_clients=2, momentum=0.9)
    task, w, state = make_task(20), initial_parameters(settings), RecordDict()
    kept = HonestClient(settings, task, 0)
    for server_round in (1, 2, 3):
        # A node builds its client anew for every message.
        client = HonestClient(settings, task, 0, ContextMemory(state))
        found, expected = client.propose(w, server_round)[0], kept.propose(w, server_round)[0]
        assert [a.tobytes() for a in found] == [a.tobytes() for a in expected]
    assert set(ContextMemory(state)) == {"velocity/0"}


def test_a_client_without_momentum_leaves_its_context_alone(make_task, initial_parameters):
    state = RecordDict()
    client = HonestClient(Settings(num_clients=2), make_task(20), 0, ContextMemory(state))
    client.propose(initial_parameters(Settings()), 1)
    assert not state


def test_an_adversary_follows_the_momenta_of_the_shards_it_knows(make_task, initial_parameters):
    settings = Settings(num_clients=N, f=F, momentum=0.9, attack_rounds=2)
    task, w = make_task(40), initial_parameters(settings)
    honest = [HonestClient(settings, task, i) for i in range(N - F)]
    adversary = Adversary(settings, task, 6, Watch())
    rested = Adversary(settings, task, 6, Later())
    for server_round in (1, 2):
        answers = [client.propose(w, server_round)[0] for client in honest]
        adversary.propose(w, server_round)
        np.testing.assert_array_equal(
            Watch.last.honest, np.stack([floats(answer) - floats(w) for answer in answers])
        )
        rested.propose(w, server_round)  # honest in the first round, and follows all the same
    np.testing.assert_array_equal(
        Later.last.honest, np.stack([floats(answer) - floats(w) for answer in answers])
    )


@dataclass(frozen=True)
class Later(Attack):
    def is_at_work(self, server_round):
        return server_round > 1

    def rows(self, scene):
        Later.last = scene
        return np.zeros(scene.honest.shape[1])


@dataclass(frozen=True)
class Counting(Attack):
    @property
    def needs(self):
        return frozenset({"memory"})

    def rows(self, scene):
        Counting.calls.append(scene.server_round)
        seen = scene.memory.get("seen", np.zeros(1))
        scene.memory["seen"] = seen + 1.0
        return np.full(scene.honest.shape[1], seen[0])


def test_what_an_attack_notes_is_there_in_the_next_round_and_worked_out_once_for_all(
    make_task, initial_parameters
):
    settings = Settings(num_clients=N, f=F)
    task, w = make_task(40), [np.zeros_like(a) for a in initial_parameters(settings)]
    Counting.calls = []
    team = [Adversary(settings, task, i, Counting()) for i in (5, 6)]
    for server_round in (1, 2, 3):
        with ThreadPoolExecutor(2) as pool:
            sent = list(pool.map(lambda c: c.propose(w, server_round)[0], team))  # noqa: B023
        for arrays in sent:
            assert (floats(arrays) == server_round - 1).all()
    assert Counting.calls == [1, 2, 3]


@dataclass(frozen=True)
class Flipped(Attack):
    knowledge = "own"
    changes_data = True

    @property
    def needs(self):
        return frozenset({"own"})

    def poisoned(self, x, y, classes):
        return x, classes - 1 - y

    def rows(self, scene):
        return scene.own


def test_an_attack_on_data_trains_on_it_and_reports_the_loss_of_the_clean(
    make_task, initial_parameters
):
    settings = Settings(num_clients=4, f=1, local_steps=2)
    task, w = make_task(40), initial_parameters(settings)
    other = make_task(40)
    object.__setattr__(other, "train_y", 1 - task.train_y)
    arrays, loss = Adversary(settings, task, 3, Flipped()).propose(w, 1)
    expected, _ = HonestClient(settings, other, 3).propose(w, 1)
    _, clean = HonestClient(settings, task, 3).propose(w, 1)
    np.testing.assert_allclose(floats(arrays), floats(expected), atol=1e-7)
    assert loss == pytest.approx(clean)
    cohort = Cohort(
        [HonestClient(settings, task, i) for i in range(3)]
        + [Adversary(settings, task, 3, Flipped())]
    )
    found, found_loss = cohort.propose(range(4), w, 1)[3]
    np.testing.assert_allclose(floats(found), floats(expected), atol=1e-6)
    assert found_loss == pytest.approx(clean, abs=1e-6)


def test_another_attack_leaves_split_model_and_batches_alone(make_task):
    task = make_task(40)
    plain, attacked = (Settings(num_clients=N, f=F, attack=attack) for attack in ("none", "random"))
    models = [build_model(s.task, s.model, s.seed).state_dict() for s in (plain, attacked)]
    assert all((a == b).all() for a, b in zip(*(m.values() for m in models), strict=True))
    for i in range(N):
        ours, theirs = (HonestClient(settings, task, i) for settings in (plain, attacked))
        assert (ours.shard == theirs.shard).all()
        for a, b in zip(ours.draws(3), theirs.draws(3), strict=True):
            np.testing.assert_array_equal(a, b)
