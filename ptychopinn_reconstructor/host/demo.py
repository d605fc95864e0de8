"""`make demo`: a scripted session of Ptychodus, without its window; `make gui`: its window on the same scan.

Run it as `python -P -m ptychopinn_reconstructor.host.demo`. The scan is scan A of `ptychopinn demo`.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..backend import installed, load_backend, name_of
from ..cli.app import OneLineErrors, debug_option
from ..cli.demo import COLUMNS, METHODS, PASSES, check_reached, demo_scan, training_time_option
from ..cli.folders import check_output_folder
from ..cli.report import pairs, table
from ..config import PLUGIN_SECTION, Config
from ..errors import PtychoPINNError
from ..io.atomic import writable_folder
from ..io.ptychodus_folder import DIFFRACTION, PRODUCT, SETTINGS, TRUTH, write_ptychodus_folder
from . import install
from .hook import LIBRARY, logger

if TYPE_CHECKING:
    from ptychodus.api.workflow import ProductWorkflowAPI
    from ptychodus.model import ModelCore

    from ..physics.scoring.metrics import Comparison
    from .library import PtychoPINNLibrary

PRODUCTS = {'network': 'network.h5', 'refined': PRODUCT}  # by method: the files that are written
REFINE = {'network': 0, 'refined': PASSES}


class Demo(OneLineErrors):
    """The command, under the name by which it is run."""

    program = 'python -P -m ptychopinn_reconstructor.host.demo'


@click.command(cls=Demo)
@click.option('--out', default='demo', show_default=True, type=click.Path(path_type=Path), help='Folder for all files.')
@click.option('--backend', default=Config().execution.backend, show_default=True, help='torch or tensorflow.')
@click.option('--gui', is_flag=True, help='Open the window of Ptychodus on the scan instead.')
@training_time_option
@click.option('--positions', type=click.IntRange(64), default=1024, show_default=True, help='Patterns of the scan.')
@debug_option
def demo(out: Path, backend: str, gui: bool, max_cpu_seconds: float, positions: int) -> int:
    """Simulate a scan; then train, infer and save in Ptychodus, by a script, and compare the object with the truth.

    Exit code 1 if the phase PSNR of the object is below 20 dB. With --gui, Ptychodus opens with the scan loaded and
    the algorithm selected, and with the model of an earlier demo if there is one.
    """
    start = time.monotonic()
    check_output_folder(out)
    if name_of(backend) not in installed():
        load_backend(backend)  # says what to install, before anything is written
    _check_host()
    if gui:
        _check_screen()
    folder = writable_folder(out).absolute()
    settings: dict[str, dict[str, Any]] = {'training': _training(max_cpu_seconds), 'execution': {'backend': backend}}
    model = folder / 'model' / 'model.safetensors'
    if gui and model.is_file():
        settings |= {'inference': {'model_path': str(model)}, 'refinement': {'passes': PASSES}}
    write_ptychodus_folder(folder / 'input', demo_scan('A', 0, positions), settings)
    if gui:
        return open_window(folder)
    losses = run_session(folder)
    found = compare_with_truth(folder, backend)
    figures = {method: image.to_dict() for method, image in found.items()}
    for line in _lines(out, figures, losses, time.monotonic() - start):
        click.echo(line)
    check_reached(figures['refined']['phase_psnr'])
    return 0


def _training(max_cpu_seconds: float) -> dict[str, Any]:
    """Our own defaults where those of Ptychodus differ, so that the network is that of `ptychopinn demo`."""
    default = Config().training
    same = {key: getattr(default, key) for key in ('nepochs', 'intensity_scale_trainable')}
    return {**same, 'max_cpu_seconds': max_cpu_seconds}


def _check_host() -> None:
    """Enter Ptychodus, which a wheel does by itself and an editable install does not."""
    try:
        version('ptychodus')
    except PackageNotFoundError as error:
        raise PtychoPINNError("Ptychodus is not installed here: pip install 'ptychodus[gui]>=1.6'") from error
    install()


def _check_screen() -> None:
    """Qt itself would abort."""
    if sys.platform == 'linux' and not {'DISPLAY', 'WAYLAND_DISPLAY', 'QT_QPA_PLATFORM'} & os.environ.keys():
        raise PtychoPINNError(
            'There is no screen for the window: DISPLAY and WAYLAND_DISPLAY are not set; start it on a desktop or '
            'through ssh -X, or set QT_QPA_PLATFORM (vnc, for example).'
        )


@contextmanager
def session(folder: Path, log_level: int) -> Iterator[tuple[ModelCore, ProductWorkflowAPI]]:
    """A session of Ptychodus with the settings and the scan in `folder`/input; its product."""
    from ptychodus.model import ModelCore

    with ModelCore(folder / 'input' / SETTINGS, log_level=log_level) as model:
        library = _library(model)
        algorithm = model.processing_core.algorithm_parameter
        algorithm.set_value(algorithm.generate_key(library.name, library.reconstructors[0].name))
        api = model.workflow_api
        patterns = api.load_assembled_diffraction_data(folder / 'input' / DIFFRACTION)
        yield model, api.load_product(folder / 'input' / PRODUCT, diffraction=patterns)


def _library(model: ModelCore) -> PtychoPINNLibrary:
    """Ours, whatever it is called beside others."""
    library: PtychoPINNLibrary | None = getattr(model.processing_core.processing_api, LIBRARY, None)
    if library is None:
        raise PtychoPINNError('PtychoPINN is not available in this Ptychodus: see the warning above.')
    return library


def run_session(folder: Path) -> list[tuple[int, float]]:
    """Train on the product, infer without and with refinement, save both objects; (epoch, loss) of the training."""
    trained = writable_folder(folder / 'model')
    with _told(), session(folder, logging.CRITICAL) as (model, product):
        product.train_reconstructor_local(trained, trained, block=True)
        passes = model.settings_registry[PLUGIN_SECTION].parameters()['RefinePasses']
        for method, name in PRODUCTS.items():
            click.echo(f'Infer: {METHODS[method]}')
            passes.set_value(REFINE[method])
            result = product.reconstruct_local(block=True)
            result.save_product(folder / name)
        return [(loss.epoch, loss.value) for loss in result.get_product().losses]


def open_window(folder: Path) -> int:
    """The window of Ptychodus on the scan; its exit code when it is closed."""
    try:
        from .window.show import show_window
    except ImportError as error:
        raise PtychoPINNError(
            f"The window of Ptychodus cannot be opened ({error}); install it with: pip install 'ptychodus[gui]'"
        ) from error

    with session(folder, logging.INFO) as (model, product):
        return show_window(model, lambda: _library(model).session.select(product.get_product_index()))


@contextmanager
def _told() -> Iterator[None]:
    """What the plugin tells the log panel is printed, without Ptychodus's own log; errors are told by the command."""
    handler = _Echo()
    handler.addFilter(lambda record: record.levelno < logging.ERROR)
    before = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]


class _Echo(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        click.echo(record.getMessage())


def compare_with_truth(folder: Path, backend: str) -> dict[str, Comparison]:
    """What the saved objects are like by method; writes comparison.png, both pictures of the object, and loss.png."""
    from ..io import read_object, read_product, write_amplitude_phase, write_comparison
    from ..io.curves import write_losses
    from ..physics.geometry import scan_area
    from ..physics.scoring.metrics import default_margin
    from ..reconstruction.evaluate import evaluate
    from ..training.metrics_table import read_losses

    truth, result = read_object(folder / 'input' / TRUTH), read_product(folder / PRODUCT)
    margin = default_margin(result.probe.shape[-1])
    found = {method: evaluate(read_object(folder / name), truth, margin=margin) for method, name in PRODUCTS.items()}
    rows = [(METHODS[method], image.result.astype('complex64')) for method, image in found.items()]
    first = ('truth', found['refined'].truth.astype('complex64'))
    write_comparison(folder / 'comparison.png', [first, *rows], pixel_size=result.pixel_size)
    area = scan_area(result.positions, result.origin)
    write_amplitude_phase(folder, result.object, pixel_size=result.pixel_size, area=area)
    write_losses(folder / 'loss.png', {backend: read_losses(folder / 'model')})
    return found


def _lines(
    out: Path, figures: Mapping[str, Mapping[str, Any]], losses: list[tuple[int, float]], seconds: float
) -> list[str]:
    """The summary."""
    rows = [(METHODS[method], *(f'{values[key]:.3f}' for key in COLUMNS)) for method, values in figures.items()]
    tail = {
        'training': f'{len(losses)} epochs, loss {losses[0][1]:.4g} to {losses[-1][1]:.4g}' if losses else '',
        'whole demo': f'{seconds:.0f} s',
        'model': str(out / 'model' / 'model.safetensors'),
        'product': str(out / PRODUCT),
        'pictures': ', '.join(str(path) for path in sorted(out.glob('*.png'))),
    }
    return ['', *table(['against the truth', *COLUMNS.values()], rows), '', *pairs(tail)]


if __name__ == '__main__':
    demo()
