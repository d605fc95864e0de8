"""What a notebook shows of scans, results, models and trainings: one line, and HTML with pictures of what they hold."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_files import parts
from PIL import Image
from scans import noise_product, short_config, small_scan

import ptychopinn_reconstructor as pp
from ptychopinn_reconstructor.events import Notice
from ptychopinn_reconstructor.io.records import ScanFile
from ptychopinn_reconstructor.model_file.writing import write_model


class Fragment(HTMLParser):
    """The pictures by their captions, the text, and the tags that are not closed, of a fragment of HTML."""

    def __init__(self, shown: Any) -> None:
        super().__init__()
        self.pictures: dict[str, bytes] = {}
        self.text, self.open = '', list[str]()
        self.html: str = shown._repr_html_()
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect what would be loaded."""
        given = dict(attrs)
        if tag == 'img':
            address = str(given['src'])
            assert address.startswith('data:image/')
            self.pictures[str(given['alt'])] = base64.b64decode(address.partition(',')[2])
        else:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Compare with what was opened."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Collect texts."""
        self.text += data

    def find_picture(self, caption: str) -> np.ndarray:
        """The pixels (H, W, 3) of the picture whose caption begins so."""
        data = next(data for text, data in self.pictures.items() if text.startswith(caption))
        return np.asarray(Image.open(io.BytesIO(data)).convert('RGB')).astype(int)


@pytest.fixture(scope='module')
def result() -> Any:
    return pp.refine(small_scan(), short_config(refinement__passes=4))


def test_a_scan_is_one_line() -> None:
    said = repr(small_scan(modes=2, object='leaves', photons=1e4))
    assert re.fullmatch(
        r'Scan\(simulated, 100 patterns of 32 x 32 pixels, [\d.e+]+ counts each, probe of 2 modes, with an object\)',
        said,
    )
    other = pp.Scan(small_scan().diffraction, small_scan().positions, metadata={'name': 'a\nb' * 100})
    assert '\n' not in repr(other) and len(repr(other)) < 200 and 'no probe)' in repr(other)


def test_a_scan_shows_its_patterns_positions_probe_and_object() -> None:
    scan = small_scan(positions=np.array([[20.0, 20.0], [20.0, 60.0], [50.0, 20.0], [50.0, 61.0]]))
    shown = Fragment(scan)
    assert len(shown.pictures) == 5 and shown.open == []
    pattern = shown.find_picture('Mean of 4 patterns').sum(axis=2)
    assert pattern.shape == (32, 32)
    brightest = np.unravel_index(int(scan.diffraction.mean(axis=0).argmax()), (32, 32))
    assert pattern[brightest] == pattern.max()
    places = shown.find_picture('4 positions')
    dots = (np.abs(places - (24, 26, 32)).sum(axis=2) > 0).sum()
    assert dots == 4 * 9 and places.shape[1] > places.shape[0], 'four dots, further apart along the columns'
    assert 'counts of a pattern' in shown.text


def test_a_name_is_no_markup() -> None:
    scan = small_scan(positions=16)
    named = pp.Scan(scan.diffraction, scan.positions, metadata={'name': '<b onload="x">'})
    assert '<b onload' not in Fragment(named).html and '<b onload="x">' in Fragment(named).text


def test_a_scan_file_tells_what_the_reader_has_decided() -> None:
    shown = Fragment(ScanFile(small_scan(positions=16), (Notice('geometry', 'an axis was moved'),)))
    assert 'an axis was moved' in shown.text and '16 patterns of' in shown.text


def test_a_large_scan_is_read_in_part_only() -> None:
    scan = small_scan(positions=900)
    assert any(text.startswith('Mean of 60 patterns') for text in Fragment(scan).pictures)


def test_a_result_hands_out_its_object_and_verdict(result: Any) -> None:
    whole = result.reconstruction
    assert result.object is whole.object and result.probe is whole.probe and result.origin == whole.origin
    assert result.verdict is result.report.run.verdict and result.verdict.word == 'good'


def test_a_result_is_one_line_and_shows_what_is_known_of_it(result: Any) -> None:
    height, width = result.object.shape
    said = f'Result({height} x {width} pixels of 100 patterns, by engine, 4 passes, fits to '
    assert repr(result).startswith(said) and repr(result).endswith(': good)')
    shown = Fragment(result)
    assert [text.partition(' ')[0] for text in shown.pictures] == ['Amplitude', 'Phase', 'Amplitude', 'Uncertainty']
    assert result.verdict.sentence in shown.text and 'class="good"' in shown.html
    assert 'Probe power is' in shown.text, 'the notices are told'


def test_the_phase_is_shown_without_its_ramp() -> None:
    """A ramp that no pattern tells would take the colors from the object."""
    product = noise_product()
    rows = np.arange(91)[:, None] * np.ones((1, 80))
    step = np.where(np.arange(80) < 40, -0.3, 0.3)
    ramp = np.exp(1j * (0.05 * rows + step)).astype(np.complex64)
    tilted = type(product)(**{**vars(product), 'object': ramp})
    phase = Fragment(tilted).find_picture('Phase').astype(float)
    assert np.ptp(phase[:, 3].sum(axis=1)) < 30 < np.abs(phase[5, 3] - phase[5, -3]).sum()
    assert repr(tilted) == 'Reconstruction(91 x 80 pixels of 20 x 10 nm, 20 patterns, probe of 2 modes)'


def test_a_plot_holds_what_the_picture_files_hold(result: Any, tmp_path: Path) -> None:
    figure = result.plot()
    amplitude, phase = (axis.images[0].get_array() for axis in figure.axes if axis.images)
    area = result.report.reliability.area
    np.testing.assert_allclose(amplitude, np.abs(result.object[area]), rtol=1e-5)
    assert phase.shape == amplitude.shape and ': good' in figure.get_suptitle()
    data, size = figure._repr_png_()
    wide = Image.open(io.BytesIO(data)).size[0]
    assert size == {'width': round(wide / 2)}
    figure.savefig(tmp_path / 'figure.png')
    with Image.open(tmp_path / 'figure.png') as written:
        assert written.size[0] > 800


def test_a_model_is_one_line_and_shows_probe_and_self_test(tmp_path: Path) -> None:
    model = pp.open_model(write_model(tmp_path / 'model.safetensors', **parts()))
    assert re.fullmatch(r'Model\([\w-]+, 33 parameters, patterns of 16 x 16 pixels, \d+ epochs on .*\)', repr(model))
    shown = Fragment(model)
    assert {'Amplitude of the probe, 2 modes', 'Recorded pattern, logarithm of the counts'} <= {
        text.partition(':')[0] for text in shown.pictures
    }
    assert shown.find_picture('Recorded pattern').shape == (16, 16, 3) and 'self-test' in shown.text


def test_a_training_shows_its_verdict_and_its_model(tmp_path: Path, backend_name: str) -> None:
    config = short_config(training__nepochs=2, model__n_filters_scale=0.5, execution__backend=backend_name)
    trained = pp.train([small_scan(positions=64)], config, tmp_path)
    shown = Fragment(trained)
    assert trained.verdict is not None and trained.verdict.sentence in shown.text
    assert repr(trained).endswith(f': {trained.verdict.word})') and str(trained.model) in repr(trained)
    losses = next(data for text, data in shown.pictures.items() if text == 'Loss by epoch')
    assert b'<svg' in losses and str(tmp_path) not in Fragment(pp.open_model(trained.model)).html
