"""One model, two backends: trained with PyTorch, used with TensorFlow; only a setting changes.

Run it in an empty folder, with the Python that has Ptychodus and both frameworks:
python switch_backend.py [CPU seconds of training] [PyTorch|TensorFlow, the backend to train with]
"""

import logging
import sys
from pathlib import Path

import numpy as np
from ptychodus.model import ModelCore

from ptychopinn_reconstructor.host import install
from ptychopinn_reconstructor.io.ptychodus_folder import write_ptychodus_folder
from ptychopinn_reconstructor.physics.simulation.simulate import simulate

seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
trains = sys.argv[2] if len(sys.argv) > 2 else 'PyTorch'
scan = write_ptychodus_folder('scan', simulate(positions=144, seed=0))
trained = Path('trained')
trained.mkdir(exist_ok=True)

install()  # only for an editable install; the wheel's plugin does it by itself
with ModelCore(log_level=logging.WARNING) as model:
    plugin = model.settings_registry['PtychoPINNPlugin'].parameters()
    plugin['MaxCpuSeconds'].set_value(seconds)
    plugin['Backend'].set_value(trains)

    api = model.workflow_api
    patterns = api.load_assembled_diffraction_data(scan['diffraction'])
    product = api.load_product(scan['product'], diffraction=patterns)
    product.train_reconstructor_local(trained, trained, algorithm='ptychopinn_pinn', block=True)

    objects = {}
    for backend in ('PyTorch', 'TensorFlow'):
        plugin['Backend'].set_value(backend)  # the model that was trained above stays loaded
        result = product.reconstruct_local(algorithm='ptychopinn_pinn', block=True)
        objects[backend] = result.get_product().object_.get_array()
        result.save_product(Path(f'{backend}.h5'))

difference = np.abs(objects['PyTorch'] - objects['TensorFlow']).max() / np.abs(objects['PyTorch']).max()
print(f'trained with {trains}; largest difference of the two objects: {difference:.1e} of the amplitude')
