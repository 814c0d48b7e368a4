"""Buffers for bulk data that are not zeroed first. Used by `control` and `client`."""

from __future__ import annotations

import numpy as np


def uninitialised(size: int) -> memoryview:
    """A writable buffer of `size` bytes that holds anything at all: fill it before you read it."""
    return memoryview(np.empty(size, np.uint8).data)
