"""Reading a picture back: matplotlib is imported by the tests that look at one, not whenever tests are collected."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np


def imread(file: Path | BinaryIO) -> np.ndarray:
    """The pixels of a PNG, (rows, columns, channels), from 0 to 1."""
    from matplotlib.image import imread as read

    return np.asarray(read(file))
