"""Layers as bytes: what numpy writes, and files whose header says what one likes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np


def npy(array: Any, version: tuple[int, int] | None = None) -> bytes:
    """Return what numpy itself writes."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asanyarray(array), version=version)
    return file.getvalue()


def forge(header: str, body: bytes = b"", version: int = 1) -> bytes:
    """Return an npy file with a header of one's own."""
    text = header.encode("latin1")
    width = 2 if version == 1 else 4
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(width, "little") + text + body


def forged_header(descr: str = "'<f4'", shape: str = "(3,)", fortran: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"
