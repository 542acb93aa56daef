import pytest

from flwr_krum.kernel.student import student


def test_the_quantile_is_students():
    stats = pytest.importorskip("scipy.stats")
    for freedom in (1, 2, 3, 6, 13, 200):
        assert student(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-9)
    assert student(13, 0.158) == pytest.approx(1.5, abs=1e-2)
