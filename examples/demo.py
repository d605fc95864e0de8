"""A scripted session of Ptychodus: simulate, train, infer with and without refinement, compare with the truth.

Run it with the Python that has Ptychodus: python demo.py [--backend tensorflow] [--out FOLDER]. With --gui it opens the
window of Ptychodus on the same scan instead, with the model of an earlier demo if there is one.
"""

import argparse
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import ptychodus
from ptychodus.api.workflow import ProductWorkflowAPI
from ptychodus.model import ModelCore

import ptychopinn_reconstructor as pp
from ptychopinn_reconstructor.backend import load_backend
from ptychopinn_reconstructor.config import PLUGIN_SECTION
from ptychopinn_reconstructor.host import install
from ptychopinn_reconstructor.io import write_amplitude_phase, write_comparison
from ptychopinn_reconstructor.io.curves import write_losses
from ptychopinn_reconstructor.io.ptychodus_folder import write_ptychodus_folder
from ptychopinn_reconstructor.physics.geometry import scan_area
from ptychopinn_reconstructor.physics.simulation.simulate import simulate
from ptychopinn_reconstructor.training.folder import MODEL
from ptychopinn_reconstructor.training.metrics_table import read_losses

PASSES = 2  # of the engine after the network
METHODS = {'network.h5': ('network alone', 0), 'product.h5': (f'network + {PASSES} passes', PASSES)}
FIGURES = {'phase_psnr': 'phase dB', 'amplitude_psnr': 'amplitude dB', 'frc_area': 'FRC area'}
GOOD_ENOUGH = 20.0  # dB of phase PSNR that the object must reach


@contextmanager
def session(scan: dict[str, Path]) -> Iterator[tuple[ModelCore, ProductWorkflowAPI]]:
    """A session of Ptychodus with the settings and the scan of a folder."""
    install()  # only for an editable install; the wheel's plugin does it by itself
    logging.getLogger('ptychodus').setLevel(logging.WARNING)
    with ModelCore(scan['settings'], log_level=logging.INFO) as model:
        patterns = model.workflow_api.load_assembled_diffraction_data(scan['diffraction'])
        yield model, model.workflow_api.load_product(scan['product'], diffraction=patterns)


def run_session(scan: dict[str, Path], folder: Path) -> None:
    """Train on the scan, infer without and with refinement, save both objects."""
    trained = folder / 'model'
    trained.mkdir(exist_ok=True)
    with session(scan) as (model, product):
        product.train_reconstructor_local(trained, trained, block=True)
        passes = model.settings_registry[PLUGIN_SECTION].parameters()['RefinePasses']
        for name, (title, number) in METHODS.items():
            print(f'Infer: {title}', flush=True)
            passes.set_value(number)
            product.reconstruct_local(block=True).save_product(folder / name)


def open_window(scan: dict[str, Path]) -> int:
    """The window of Ptychodus at its page for processing, with the scan loaded; its exit code."""
    from ptychodus.controller import ControllerCore
    from ptychodus.view import ViewCore
    from PyQt5.QtWidgets import QApplication, QComboBox

    with session(scan) as (model, product):
        application = QApplication(sys.argv[:1])
        view = ViewCore()
        controller = ControllerCore(model, view)
        controller.show_main_window(ptychodus.VERSION_STRING)
        view.processing_action.trigger()
        for box in view.findChildren(QComboBox):
            box.setCurrentText(product.get_product().metadata.name)  # where no entry has that name, nothing changes
        return int(application.exec())


def compare_with_truth(scan: dict[str, Path], folder: Path, backend: str) -> float:
    """Print how good the objects are and draw them beside the truth; the phase PSNR of the refined one, dB."""
    truth, product = pp.read_object(scan['truth']), pp.read_product(folder / 'product.h5')
    found = {title: pp.evaluate(pp.read_object(folder / name), truth) for name, (title, _) in METHODS.items()}
    print(f'\n{"against the truth":<20}' + ''.join(f'{title:>14}' for title in FIGURES.values()))
    for title, image in found.items():
        values = image.to_dict()
        print(f'{title:<20}' + ''.join(f'{values[key]:>14.3f}' for key in FIGURES))
    images = {'truth': image.truth} | {title: one.result for title, one in found.items()}
    rows = [(title, values.astype('complex64')) for title, values in images.items()]
    area = scan_area(product.positions, product.origin)
    write_comparison(folder / 'comparison.png', rows, pixel_size=product.pixel_size)
    write_amplitude_phase(folder, product.object, pixel_size=product.pixel_size, area=area)
    write_losses(folder / 'loss.png', {backend: read_losses(folder / 'model')})
    return image.phase_psnr


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence, like all others of this script; argparse prints the usage before it."""

    def error(self, message: str) -> NoReturn:
        """Print it and exit with 2."""
        self.exit(2, f'demo.py: error: {message[:1].upper()}{message[1:]}; see demo.py --help.\n')


def main() -> int:
    """Run the session that the command line asks for; 1 if the object is not as good as it must be."""
    parser = Parser(description=__doc__)
    parser.add_argument('--out', type=Path, default=Path('demo'), help='folder for all files')
    parser.add_argument('--backend', default='torch', help='torch or tensorflow')
    parser.add_argument('--gui', action='store_true', help='open the window of Ptychodus on the scan instead')
    parser.add_argument('--max-cpu-seconds', type=float, default=150.0, help='CPU time of the training, seconds')
    parser.add_argument('--positions', type=int, default=1024, help='patterns of the scan')
    options = parser.parse_args()
    if (
        options.gui
        and sys.platform == 'linux'
        and not {'DISPLAY', 'WAYLAND_DISPLAY', 'QT_QPA_PLATFORM'} & {*os.environ}
    ):
        sys.exit('There is no screen for the window: start it on a desktop or through ssh -X, or set QT_QPA_PLATFORM.')
    start, folder = time.monotonic(), options.out.absolute()
    load_backend(options.backend)  # says what to install, before anything is written

    # Ptychodus has other defaults for some settings: with ours the network is that of `ptychopinn demo`.
    ours = pp.Config().training
    training = {key: getattr(ours, key) for key in ('nepochs', 'intensity_scale_trainable')}
    settings = {
        'training': {**training, 'max_cpu_seconds': options.max_cpu_seconds},
        'execution': {'backend': options.backend},
    }
    model = folder / 'model' / MODEL
    if options.gui and model.exists():
        settings |= {'inference': {'model_path': str(model)}, 'refinement': {'passes': PASSES}}
    scan = write_ptychodus_folder(folder / 'input', simulate(positions=options.positions, seed=0), settings)
    if options.gui:
        return open_window(scan)
    run_session(scan, folder)
    reached = compare_with_truth(scan, folder, options.backend)
    print(f'\nwhole demo: {time.monotonic() - start:.0f} s; model: {model}')
    print('pictures:', ', '.join(str(path) for path in sorted(options.out.glob('*.png'))))
    if reached < GOOD_ENOUGH:
        print(f'The phase PSNR of the object is {reached:.1f} dB, below {GOOD_ENOUGH:g} dB: the demo failed.')
    return 0 if reached >= GOOD_ENOUGH else 1


if __name__ == '__main__':
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print('demo.py: error: Interrupted.', file=sys.stderr)
        sys.exit(130)
    except pp.PtychoPINNError as error:
        print(f'demo.py: error: {error}', file=sys.stderr)
        sys.exit(error.exit_code)
