"""The way a device computes: the one place that knows NumPy, the compiled kernels and the GPU."""

from __future__ import annotations

from flwr_krum.kernel.device import check_device, numba_is_installed


def prepare(device: str) -> None:
    """Have the device ready before the first round: compile what it needs, or find the GPU.

    Raises
    ------
    ValueError
        If there is no such device, or what it needs is not installed.
    """
    check_device(device)
    if device == "cpu:numba" and not numba_is_installed():
        raise ValueError("device='cpu:numba' needs numba: pip install 'flwr-krum[fast]'")
    if device.startswith("cuda"):
        from flwr_krum.kernel import cuda_way

        cuda_way.find(device)
    elif device != "cpu:numpy" and numba_is_installed():
        from flwr_krum.kernel import numba_way

        numba_way.warm_up()
