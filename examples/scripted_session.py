"""A scripted session of Ptychodus: load a scan, train a network on it, infer, save the product.

Run it in an empty folder, with the Python that has Ptychodus: python scripted_session.py [CPU seconds of training]
"""

import logging
import sys
from pathlib import Path

from ptychodus.model import ModelCore

from ptychopinn_reconstructor.host import install
from ptychopinn_reconstructor.io import read_object
from ptychopinn_reconstructor.io.ptychodus_folder import write_ptychodus_folder
from ptychopinn_reconstructor.physics.simulation.simulate import simulate
from ptychopinn_reconstructor.reconstruction.evaluate import evaluate

seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
scan = write_ptychodus_folder('scan', simulate(positions=256, seed=0))  # diffraction.h5, product.h5 and more
trained = Path('trained')
trained.mkdir(exist_ok=True)

install()  # only for an editable install; the wheel's plugin does it by itself
with ModelCore(log_level=logging.WARNING) as model:
    # Settings, by section and key as in an INI file; `ModelCore(Path('settings.ini'))` reads one.
    settings = model.settings_registry
    settings['PtychoPINNPlugin'].parameters()['Backend'].set_value('PyTorch')
    settings['PtychoPINNPlugin'].parameters()['Device'].set_value('cpu')
    settings['PtychoPINNPlugin'].parameters()['MaxCpuSeconds'].set_value(seconds)
    settings['PtychoPINNPlugin'].parameters()['RefinePasses'].set_value(2)
    settings['PtychoPINNTraining'].parameters()['NumEpochs'].set_value(44)

    # Load: the product's object is flat, as it is before any reconstruction.
    api = model.workflow_api
    patterns = api.load_assembled_diffraction_data(scan['diffraction'])
    product = api.load_product(scan['product'], diffraction=patterns)

    # Train: the input folder holds no training data, so that the network learns from the product above.
    product.train_reconstructor_local(trained, trained, algorithm='ptychopinn_pinn', block=True)

    # Infer, and save what came out.
    result = product.reconstruct_local(algorithm='ptychopinn_pinn', block=True)
    result.save_product(Path('result.h5'))
    losses = [loss.value for loss in result.get_product().losses]

comparison = evaluate(read_object('result.h5'), read_object(scan['truth']))
print(f'{len(losses)} epochs, loss {losses[0]:.3f} to {losses[-1]:.3f}; model: {trained / "model.safetensors"}')
print(f'phase PSNR {comparison.phase_psnr:.1f} dB against the truth; product: result.h5')
