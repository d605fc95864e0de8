"""What the TensorFlow backend says of itself; no framework is imported."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ptychopinn_reconstructor.backend.capabilities import ALL_CAPABILITIES, Capability
from ptychopinn_reconstructor.backend.description import BackendDescription


def check_keras() -> str:
    """Where Keras is set to run on something else than TensorFlow, and the remedy; '' if it is not."""
    chosen, where = find_keras_backend()
    if chosen == 'tensorflow':
        return ''
    return f'Keras is set to its backend {chosen} in {where}; set KERAS_BACKEND=tensorflow, or that to tensorflow'


def find_keras_backend() -> tuple[str, str]:
    """The backend that Keras will choose, and the environment variable or file that says so (Keras 3, config.py)."""
    if chosen := os.environ.get('KERAS_BACKEND'):
        return chosen, 'KERAS_BACKEND'
    file = Path(os.environ.get('KERAS_HOME', '~/.keras')).expanduser() / 'keras.json'
    try:
        return str(json.loads(file.read_text(encoding='utf-8')).get('backend', 'tensorflow')), str(file)
    except (OSError, ValueError, AttributeError):  # not there, or no JSON object
        return 'tensorflow', 'its default'


DESCRIPTION = BackendDescription(
    name='tensorflow',
    title='TensorFlow',
    requires=('tensorflow', 'keras'),
    install='ptychopinn-reconstructor[tensorflow]',
    backend='ptychopinn_reconstructor.backends.tensorflow_keras.adapter:TensorFlowBackend',
    architectures={'s2d_unet': 'ptychopinn_reconstructor.backends.tensorflow_keras.s2d_unet:build_network'},
    obstacle=check_keras,
    # Keras 3 has no MultiWorkerMirroredStrategy with TensorFlow (github.com/keras-team/keras/issues/20585).
    capabilities=ALL_CAPABILITIES - {Capability.PROCESSES},
)
