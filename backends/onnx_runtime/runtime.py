"""ONNX Runtime, imported so that it tells nobody anything."""

from __future__ import annotations

import os
from functools import cache
from typing import Any


@cache
def load_runtime() -> Any:
    """The module onnxruntime.

    From 1.31 on its wheels for Linux give the user a number, kept in the home folder, and send what they are used for
    to their maker, unless told not to before they are imported.
    """
    os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime
