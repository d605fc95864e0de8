"""Values of all kinds as plain JSON, in which there is no number that is not finite."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .atomic import write_atomically


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file; numbers that are not finite become null."""
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(to_plain_json(values), indent=2, allow_nan=False) + '\n')


def to_plain_json(value: Any) -> Any:
    """A copy in plain JSON types in which NaN and infinity are None."""
    if isinstance(value, Mapping):
        return {str(key): to_plain_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain_json(item) for item in value]
    if isinstance(value, np.ndarray):
        return to_plain_json(value.tolist())
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
