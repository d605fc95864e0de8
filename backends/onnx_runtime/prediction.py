"""A network that predicts: arrays in, arrays out, on a device that ONNX Runtime's execution providers reach."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ptychopinn_reconstructor.backends.onnx_runtime.runtime import load_runtime
from ptychopinn_reconstructor.errors import DeviceError

ERRORS_ONLY: Final = 3
# The execution providers behind the word for a device, the last resort of each left out; none has been tried on a GPU.
PROVIDERS: Final = {
    'cuda': ('CUDAExecutionProvider',),
    'tensorrt': ('TensorrtExecutionProvider', 'CUDAExecutionProvider'),
}
CPU: Final = 'CPUExecutionProvider'
SINGLE_PRECISION: Final = {'CUDAExecutionProvider': {'use_tf32': '0'}}  # of the options; else its sums have 10 bits


def list_devices() -> list[str]:
    """The CPU, and each GPU under the words whose first provider this build of ONNX Runtime has."""
    there = load_runtime().get_available_providers()
    words = [word for word, (first, *_) in PROVIDERS.items() if first in there]
    return ['cpu', *(f'{word}:{number}' for word in words for number in range(count_gpus()))]


def count_gpus() -> int:
    """Number of NVIDIA GPUs that this system lets us see; the runtime lists only what it was built for."""
    return len(list(Path('/dev').glob('nvidia[0-9]*'))) or int(Path('/dev/dxg').exists())  # the latter in WSL


class OnnxNetwork:
    """A session of a graph on one device; DeviceError where the providers of that device cannot be started."""

    def __init__(self, graph: bytes, device: str) -> None:
        runtime = load_runtime()
        options = runtime.SessionOptions()
        # Whoever has more cores calls from more threads.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        options.log_severity_level = ERRORS_ONLY
        providers = list_providers(device)
        try:
            self.session = runtime.InferenceSession(graph, options, providers, enable_fallback=0)
        except Exception as error:  # its own errors have no common base
            if device == 'cpu':
                raise
            raise _refuse(device, str(error)) from error
        if (started := self.session.get_providers()[0]) != providers[0][0]:
            raise _refuse(device, f'only {started} could be started')

    def predict(self, root4: NDArray[np.float32], backprojection: NDArray[np.float32]) -> NDArray[np.complex64]:
        """Object patches (b, n, n) from the network's input (b, N, N) and (b, 2, n, n)."""
        (parts,) = self.session.run(None, {'root4': root4, 'backprojection': backprojection})
        patches = np.empty((len(parts), *parts.shape[2:]), dtype=np.complex64)
        patches.real, patches.imag = parts[:, 0], parts[:, 1]
        return patches


def list_providers(device: str) -> list[tuple[str, dict[str, Any]]]:
    """Execution providers of a device with their options, the preferred one first."""
    word, _, number = device.partition(':')
    chosen = [(name, {'device_id': number} | SINGLE_PRECISION.get(name, {})) for name in PROVIDERS.get(word, ())]
    return [*chosen, (CPU, {})]


def _refuse(device: str, reason: str) -> DeviceError:
    first_line = reason.strip().partition('\n')[0].rstrip('.')
    return DeviceError(
        f'ONNX Runtime cannot use the device {device!r} ({first_line}); choose cpu, or mend its drivers.'
    )
