"""`ptychopinn live`."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from ..config import Config
from ..errors import ConfigError, ScanError
from ..events import never
from ..io import read_probe, write_product
from ..io.arrays import read_npy
from ..live.follow import Follower, Output, crop_patterns
from ..live.live_scan import LiveScan
from ..live.page import Page
from ..live.sources import open_source
from ..model_file.opening import open_model
from ..reconstruction.finish import Result
from .app import debug_option, decorate_with
from .arguments import output_option, probe_option
from .configuration import dump_yaml, resolve
from .folders import check_output_folder
from .logs import job_output_options
from .options import SEPARATOR, SettingsCommand, field_options, settings_options
from .progress import ProgressBar
from .report import format_pairs
from .result_job import Asked, ResultJob
from .stopping import catch_stop_signals

PAGE_SECONDS = 1.0

live_options = decorate_with(
    click.argument('source', metavar='SOURCE'),
    click.option(
        '--model', required=True, type=click.Path(path_type=Path), help='The trained model (model.safetensors).'
    ),
    output_option,
    probe_option,
    click.option(
        '--positions', metavar='ENDPOINT', help='Further stream or channel, from which the positions come.'
    ),
    click.option(
        '--key', 'keys', multiple=True, metavar='NAME=DATASET',
        help='Dataset of an HDF5 file: patterns, positions (or rows and columns), indexes, position_indexes.',
    ),
    click.option(
        '--center', nargs=2, type=int, metavar='ROW COLUMN',
        help='Of the beam on the detector, about which larger patterns are cropped [default: their middle].',
    ),
    click.option(
        '--bad-pixels', type=click.Path(path_type=Path), help='NPY file, True where a pixel of the patterns is bad.'
    ),
    click.option(
        '--pixel-size', type=click.FloatRange(0, min_open=True), metavar='METERS',
        help='Size of an object pixel; needed where positions are lengths.',
    ),
    click.option('--port', type=click.IntRange(0, 65535), default=0, help='Of the page [default: any that is free].'),
    click.option('--page/--no-page', default=True, show_default=True, help='Serve a page for the browser.'),
    click.option(
        '--product-seconds', type=click.FloatRange(0), default=30.0, show_default=True,
        help='Seconds between two writings of product.h5.',
    ),
    click.option(
        '--end-after', type=click.FloatRange(0), default=30.0, show_default=True,
        help='Seconds without anything new after which the scan is over.',
    ),
    settings_options,
    field_options('reconstruct'),
    job_output_options,
    debug_option,
)  # fmt: skip


@click.command(cls=SettingsCommand)
@live_options
def live(**given: Any) -> None:
    """Show the object of a scan while it is taken.

    SOURCE is a growing HDF5 file (SWMR), a folder that files are put into, tcp://HOST:PORT of a ZMQ stream in Eiger's
    format, or pva:CHANNEL of PV Access. Each pattern is laid on the canvas as soon as its position is known, too; the
    object is improved in the time that is left. A page on this machine shows it, and product.h5 grows. When the scan
    is over, or after Ctrl-C, the whole is reconstructed and written as `reconstruct` does it.
    """
    options = {name: given.pop(name) for name in list(given) if SEPARATOR in name}
    config = resolve(
        Config().merged(open_model(given['model']).manifest.defaults), given['file'], given['settings'], options
    )
    if given['print_config']:
        click.echo(dump_yaml(config), nl=False)
        return
    _Job(given, config).run()


class _Job:
    """A source, a live scan, and where it is shown."""

    def __init__(self, given: dict[str, Any], config: Config) -> None:
        check_output_folder(given['output_dir'])
        self.given, self.config = given, config
        self.folder: Path = given['output_dir']
        self.quiet = given['quiet'] or not config.execution.progress
        self.n = int(open_model(given['model']).config.model.N or 0)

    def run(self) -> None:
        """Follow the source to its end, then reconstruct and write."""
        given, started = self.given, time.process_time()
        with ExitStack() as stack:
            should_stop = stack.enter_context(catch_stop_signals())
            bar = stack.enter_context(ProgressBar('receiving', quiet=self.quiet))
            scan = stack.enter_context(self._open_scan())  # first: what is sent meanwhile would have to wait
            source = stack.enter_context(
                open_source(
                    given['source'],
                    positions=given['positions'],
                    pixel_size=given['pixel_size'],
                    keys=dict(_split_key(one) for one in given['keys']),
                )
            )
            follower = Follower(scan, source, self.n, given['center'], given['end_after'], self._outputs(stack, scan))
            follower.run(should_stop)
            follower.finish('reconstructing the whole')
            result = scan.settle(math.inf, emit=bar.emit, should_stop=never)
            assert result is not None
            follower.finish('complete')
            self._write(result, follower, started)

    def _open_scan(self) -> LiveScan:
        given, size = self.given, self.given['pixel_size']
        return LiveScan(
            given['model'],
            None if given['probe'] is None else read_probe(given['probe']),
            config=self.config,
            bad_pixels=None if given['bad_pixels'] is None else self._read_mask(given['bad_pixels']),
            pixel_size=None if size is None else (size, size),
            metadata={'name': Path(given['source']).stem or 'live'},
            scratch=self.config.execution.scratch_dir,
        )

    def _read_mask(self, path: Path) -> NDArray[np.bool_]:
        mask = read_npy(path)
        if mask.ndim != 2 or mask.dtype.kind not in 'bui':
            raise ScanError(f'{path} holds {mask.dtype} {mask.shape}; expected (H, W), True where a pixel is bad.')
        return np.asarray(crop_patterns(mask.astype(bool)[None], self.n, self.given['center'])[0])

    def _outputs(self, stack: ExitStack, scan: LiveScan) -> list[Output]:
        outputs = [Output(lambda _: self._write_product(scan), self.given['product_seconds'])]
        if self.given['page']:
            page = stack.enter_context(Page(self.given['port']))
            outputs.append(Output(page.show, PAGE_SECONDS))
            if not self.quiet:
                click.echo(f'The object is shown at {page.address}', err=True)
        return outputs

    def _write_product(self, scan: LiveScan) -> None:
        if scan.placed:
            write_product(self.folder / 'product.h5', scan.reconstruction())

    def _write(self, result: Result, follower: Follower, started: float) -> None:
        job = ResultJob(self.folder, Asked(pixel_size=self.given['pixel_size']), quiet=self.quiet)
        job.cpu, job.notices = started, ()
        job.finish(result)
        job.print_summary(result)
        told, counted = follower.latencies.to_json(), follower.live.count()
        if not self.quiet:
            pairs = {
                'pairs, patterns, positions': f'{counted.pairs}, {counted.patterns}, {counted.positions}',
                'came twice': counted.doubled,
                **{f'latency, {name}': f'{told[name]:.0f} ms' for name in ('median', 'p90') if told[name] is not None},
            }
            for line in format_pairs(pairs):
                click.echo(line)


def _split_key(text: str) -> tuple[str, str]:
    name, separator, dataset = text.partition('=')
    if not separator:
        raise ConfigError(f'--key {text} is not of the form NAME=DATASET; write for example patterns=/entry/data/data.')
    return name, dataset
