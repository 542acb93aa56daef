from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from flwr_krum.kernel import cuda_way, ways
from flwr_krum.kernel import device as device_
from flwr_krum.kernel.device import check_device, is_compiled
from flwr_krum.kernel.ways import prepare
from flwr_krum.rules import ClientUpdates, Krum, Medoid, MultiKrum
from tests.flwr_krum.hard_inputs import updates_of
from tests.flwr_krum.references import best, krum_scores


@pytest.mark.parametrize("name", ["gpu", "cpu:", "cpu:numpy ", "cuda:x", "CUDA", "", None, 0])
def test_an_unknown_device_is_named_with_the_legal_ones(name):
    for refuse in (
        check_device,
        prepare,
        lambda d: ClientUpdates.from_layers([[np.ones(1)]], device=d),
    ):
        with pytest.raises(
            ValueError, match="device must be one of cpu, cpu:numpy, cpu:numba, cuda"
        ):
            refuse(name)


def test_compiled_kernels_are_for_few_clients_and_models_that_are_worth_the_calls(monkeypatch):
    monkeypatch.setattr(device_, "numba_is_installed", lambda: True)
    assert is_compiled("cpu", 500, 10_000)
    assert not is_compiled("cpu", 501, 10_000)
    assert not is_compiled("cpu", 10, 100)
    assert is_compiled("cpu:numba", 500, 1)
    assert not is_compiled("cpu:numpy", 10, 10**6)
    assert not is_compiled("cuda", 10, 10**6)
    monkeypatch.setattr(device_, "numba_is_installed", lambda: False)
    assert not is_compiled("cpu", 10, 10**6)


def test_without_numba_the_compiled_device_says_what_to_install(monkeypatch):
    monkeypatch.setattr(device_, "numba_is_installed", lambda: False)
    monkeypatch.setattr(ways, "numba_is_installed", lambda: False)
    prepare("cpu")
    with pytest.raises(ValueError, match=r"needs numba: pip install 'flwr-krum\[fast\]'"):
        prepare("cpu:numba")


def test_a_gpu_that_is_not_there_is_an_error_at_construction():
    torch = pytest.importorskip("torch")
    missing = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(ValueError, match=f"device='{missing}' is not there: torch sees"):
        prepare(missing)


def test_nothing_imports_torch_or_numba_before_they_are_asked_for():
    code = (
        "import sys, flwr_krum.server.strategy, flwr_krum.serverapp.strategy, flwr_krum.rules\n"
        "import flwr_krum.kernel.combine\n"
        "print([m for m in ('torch', 'numba') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.skipif(not device_.numba_is_installed(), reason="needs the extra 'fast'")
def test_kernels_are_loaded_when_replies_are_there_that_are_worth_them_and_not_before():
    code = (
        "import io, sys, numpy as np\n"
        "from flwr_krum.boundary.replies import Reply\n"
        "from flwr_krum.round import Rounds\n"
        "from flwr_krum.rules import Krum\n"
        "rounds, loaded = Rounds(Krum(1)), []\n"
        "for t, d in enumerate((10, 1000), 1):\n"
        "    model = {'w': np.zeros(d, np.float32)}\n"
        "    rounds.begin(model, range(7))\n"
        "    loaded.append('numba' in sys.modules)\n"
        "    file = io.BytesIO()\n"
        "    np.save(file, model['w'])\n"
        "    rounds.finish(t, [Reply(i, {'w': file.getvalue()}) for i in range(7)])\n"
        "    loaded.append('numba' in sys.modules)\n"
        "print(loaded)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[False, False, False, True]"


@pytest.fixture
def torch_on_the_cpu(monkeypatch):
    """Run the GPU's code where there is none: torch computes the same on its CPU device."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(cuda_way, "find", lambda device: torch.device("cpu"))


@pytest.mark.usefixtures("torch_on_the_cpu")
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
@pytest.mark.parametrize("outlier", [1.0, 1e4, 1e30])
def test_the_code_for_a_gpu_chooses_the_same_clients(dtype, outlier):
    rng = np.random.default_rng(0)
    n, f = 13, 5
    base = [1e2 * rng.standard_normal(s) for s in ((3, 50), (700,), (0,), ())]
    models = []
    for i in range(n):
        scale = outlier if i < f else 1e-1
        with np.errstate(over="ignore"):
            made = [
                np.asarray(x + scale * rng.standard_normal(x.shape)).astype(dtype) for x in base
            ]
        models.append([np.nan_to_num(x, posinf=6e4, neginf=-6e4) for x in made])
    reference = [np.asarray(x).astype(dtype) for x in base]
    on_cpu, on_gpu = (
        ClientUpdates.from_layers(models, reference, device=d) for d in ("cpu:numpy", "cuda")
    )
    for rule in (Krum(f), MultiKrum(f), Medoid()):
        here, there = rule(on_cpu), rule(on_gpu)
        assert here.selected == there.selected
        for a, b in zip(here.layers, there.layers, strict=True):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            np.testing.assert_allclose(a, b, rtol=2 * np.finfo(dtype).eps)


@pytest.mark.usefixtures("torch_on_the_cpu")
def test_the_code_for_a_gpu_decides_hard_draws_as_exact_arithmetic(hard_draws):
    for draw in hard_draws:
        n, f = len(draw.V), draw.f
        order = best(krum_scores(draw.squared, n - f - 2), n)
        assert MultiKrum(f, m=n - f)(updates_of(draw.V, "cuda")).selected == order[: n - f]
