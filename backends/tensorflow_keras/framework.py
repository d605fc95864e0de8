"""TensorFlow itself; the adapter takes it from here, before any other module imports it."""

from __future__ import annotations

import importlib
import os
import re
import sys
import tempfile
from typing import Any

STDERR = 2
# Of the level 'info', and the announcement of all that is written before TensorFlow's log has been set up.
EARLY = re.compile(rb'I\d{4} |WARNING: All log messages before absl::InitializeLog\(\)')


def import_framework(name: str = 'tensorflow') -> Any:
    """A module, imported.

    On processors where it computes with oneDNN, TensorFlow (2.21) writes two lines to stderr before it looks at
    TF_CPP_MIN_LOG_LEVEL, whatever that is; TF_ENABLE_ONEDNN_OPTS=0 would end them, and change speed and results. Where
    the level asks for warnings only, as our command line and worker do, they are left out and all else is written.
    """
    if name in sys.modules or os.environ.get('TF_CPP_MIN_LOG_LEVEL', '0') == '0':
        return importlib.import_module(name)
    sys.stderr.flush()
    original = os.dup(STDERR)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), STDERR)
        try:
            return importlib.import_module(name)
        finally:
            sys.stderr.flush()
            os.dup2(original, STDERR)
            os.close(original)
            said.seek(0)
            for line in said:
                if not EARLY.match(line):
                    os.write(STDERR, line)


tf: Any = import_framework()


def uses_one_dnn() -> bool:
    """Whether TensorFlow computes with oneDNN, which it decides by the processor and TF_ENABLE_ONEDNN_OPTS."""
    try:
        from tensorflow.python.util._pywrap_util_port import IsMklEnabled
    except ImportError:  # it has no public name, and may get another
        return False
    return bool(IsMklEnabled())
