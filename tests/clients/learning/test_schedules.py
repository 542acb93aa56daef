import pytest

from clients import Settings, learning_rate


def test_constant_keeps_the_rate():
    settings = Settings(learning_rate=0.2)
    assert {learning_rate(settings, t) for t in (1, 10, 1000)} == {0.2}


def test_inverse_has_halved_the_rate_after_decay_rounds():
    settings = Settings(learning_rate=0.2, schedule="inverse", decay_rounds=100)
    assert learning_rate(settings, 100) == pytest.approx(0.1)
    assert learning_rate(settings, 300) == pytest.approx(0.05)


def test_power_starts_at_the_rate_and_falls_as_t_to_the_minus_three_quarters():
    settings = Settings(learning_rate=0.2, schedule="power")
    assert learning_rate(settings, 1) == 0.2
    assert learning_rate(settings, 16) == pytest.approx(0.2 / 8)


@pytest.mark.parametrize("schedule", ["inverse", "power"])
def test_the_decaying_schedules_meet_proposition_2(schedule):
    # Doubling the horizon adds about as much to the sum (it diverges) and ever less to the sum of
    # squares (it converges).
    settings = Settings(schedule=schedule, decay_rounds=10)
    rates = [learning_rate(settings, t) for t in range(1, 40_001)]
    first, second = rates[10_000:20_000], rates[20_000:]
    assert sum(second) >= 0.99 * sum(first)
    assert sum(r * r for r in second) <= 0.75 * sum(r * r for r in first)


def test_rounds_count_from_one():
    with pytest.raises(ValueError, match="server_round is 0, expected >= 1"):
        learning_rate(Settings(), 0)
