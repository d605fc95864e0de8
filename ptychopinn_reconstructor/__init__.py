"""PtychoPINN for Ptychodus: physics-informed neural reconstruction of ptychographic scans.

    import ptychopinn_reconstructor as pp

    scan = pp.read_scan('scan.npz').scan
    config = pp.Config()
    model = pp.train([scan], config, 'model').model
    result = pp.reconstruct(scan, model, config)

Importing this package loads numpy at most; frameworks, scipy, h5py and Qt are imported where they are used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .errors import PtychoPINNError

if TYPE_CHECKING:
    from .config import Config
    from .diagnosis.diagnose import diagnose
    from .display.progress import ProgressLine
    from .io import read_object, read_product, read_scan
    from .live.live_scan import LiveScan
    from .model_file.opening import open_model
    from .physics.simulation.simulate import simulate
    from .reconstruction.evaluate import evaluate
    from .reconstruction.reconstruct import reconstruct
    from .reconstruction.reconstruct import refine_scan as refine
    from .reconstruction.writing import write_result
    from .scan import Scan
    from .training.instrument import Instrument
    from .training.pretraining import pretrain
    from .training.train import train

__version__ = '0.1.0'
__all__ = [
    'Config',
    'Instrument',
    'LiveScan',
    'ProgressLine',
    'PtychoPINNError',
    'Scan',
    '__version__',
    'diagnose',
    'evaluate',
    'open_model',
    'pretrain',
    'read_object',
    'read_product',
    'read_scan',
    'reconstruct',
    'refine',
    'simulate',
    'train',
    'write_result',
]
_HOMES = {
    'Config': 'config',
    'Instrument': 'training.instrument',
    'LiveScan': 'live.live_scan',
    'ProgressLine': 'display.progress',
    'Scan': 'scan',
    'diagnose': 'diagnosis.diagnose',
    'evaluate': 'reconstruction.evaluate',
    'open_model': 'model_file.opening',
    'pretrain': 'training.pretraining',
    'read_object': 'io',
    'read_product': 'io',
    'read_scan': 'io',
    'reconstruct': 'reconstruction.reconstruct',
    'refine': 'reconstruction.reconstruct:refine_scan',
    'simulate': 'physics.simulation.simulate',
    'train': 'training.train',
    'write_result': 'reconstruction.writing',
}


def __getattr__(name: str) -> Any:
    """A name of the public face, imported when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    module, _, attribute = _HOMES[name].partition(':')
    return getattr(importlib.import_module(f'.{module}', __name__), attribute or name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
