"""report.html: what it says, that it needs no other file, and what a browser makes of it."""

from __future__ import annotations

import base64
import html
import io
import re
import shlex
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import ok, run
from PIL import Image
from scans import small_scan

from ptychopinn_reconstructor.io import read_product, write_npz
from ptychopinn_reconstructor.io.images import without_ramp

NAME = 'a <b> & "c".npz'  # what a page must escape


class Page(HTMLParser):
    """The pictures, texts and addresses of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.pictures: dict[str, bytes] = {}
        self.addresses: list[str] = []
        self.text = ''
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect what would be loaded."""
        given = dict(attrs)
        self.addresses += [value for name in ('src', 'href') if (value := given.get(name))]
        if tag == 'img' and (source := given.get('src')):
            self.pictures[str(given['alt'])] = base64.b64decode(source.partition(',')[2])

    def handle_data(self, data: str) -> None:
        """Collect texts."""
        self.text += data


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan, and what `refine` leaves of it."""
    folder = tmp_path_factory.mktemp('page')
    write_npz(folder / NAME, small_scan())
    ok('refine', str(folder / NAME), '--output-dir', str(folder / 'out'), '--passes', '4', '--prior', '0.5')
    return folder


@pytest.fixture(scope='module')
def page(folder: Path) -> Page:
    return Page(folder / 'out' / 'report.html')


def test_the_page_needs_no_other_file(folder: Path, page: Page) -> None:
    assert page.addresses and all(address.startswith('data:image/') for address in page.addresses)
    text = (folder / 'out' / 'report.html').read_text(encoding='utf-8')
    assert len(text) < 3e6 and '//' not in re.sub(r'data:image[^"]*|xmlns="[^"]*"', '', text)


def test_names_of_files_are_no_markup(folder: Path, page: Page) -> None:
    text = (folder / 'out' / 'report.html').read_text(encoding='utf-8')
    assert f'<h1>{html.escape(NAME, quote=False)}' in text.replace('&#34;', '"')
    assert NAME in page.text


def test_the_page_says_what_was_changed_and_how_to_repeat_it(folder: Path, page: Page) -> None:
    changed = re.search(r'Settings that differ.*?How it was made', page.text, re.DOTALL)
    assert changed and 'refinement.passes' in changed[0] and 'refinement.prior' in changed[0] and '0.5' in changed[0]
    assert 'refinement.probe\n' not in changed[0]
    line = next(part for part in page.text.splitlines() if part.startswith('ptychopinn refine'))
    given = shlex.split(line)[1:]
    before = read_product(folder / 'out' / 'product.h5')
    given[given.index('--output-dir') + 1] = str(folder / 'again')
    assert run(*given).exit_code == 0
    assert np.array_equal(read_product(folder / 'again' / 'product.h5').object, before.object)


def test_the_page_tells_the_verdict_and_its_numbers(page: Page) -> None:
    assert re.search(r'Fits to [\d.]+ times counting noise: (good|doubtful|bad)\.', page.text)
    for said in ('residual', 'R-factor', 'numpy', '4 passes on cpu', 'Probe power is absolute'):
        assert said in page.text


def test_all_maps_are_of_one_size(page: Page) -> None:
    """So that they can be laid over each other: the pictures differ in the room for a title only."""
    png = {caption: data for caption, data in page.pictures.items() if data.startswith(b'\x89PNG')}
    sizes = {caption: Image.open(io.BytesIO(data)).size for caption, data in png.items()}
    maps = [size for caption, size in sizes.items() if re.match('Amplitude|Phase|Misfit|Where', caption)]
    assert len(maps) == 4 and len({width for width, _ in maps}) == 1
    assert max(height for _, height in maps) - min(height for _, height in maps) == round(0.3 * 160)


def test_a_ramp_is_taken_out_of_what_is_shown_alone() -> None:
    """Where it would take the colors from the object; less of one stays."""
    flat = np.ones((50, 40), np.complex64)
    ramp = np.exp(1j * 0.03 * np.arange(50))[:, None].astype(np.complex64)
    shown, found = without_ramp(flat * ramp)
    assert found is not None and found.across((50, 40)) == pytest.approx((0.03 * 49, 0), abs=1e-5)
    assert np.ptp(np.angle(shown)) < 1e-5
    same, none = without_ramp(flat * ramp**0.1)
    assert none is None and np.array_equal(same, flat * ramp**0.1)


BROWSER = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason='no browser is installed (chromium)')
@pytest.mark.parametrize(('width', 'dark'), [(1250, False), (420, True)])
def test_a_browser_shows_the_page_without_an_error(folder: Path, tmp_path: Path, width: int, dark: bool) -> None:
    """And no part of it is wider than the window."""
    probe = tmp_path / 'probe.html'
    text = (folder / 'out' / 'report.html').read_text(encoding='utf-8')
    measure = (
        '<script>addEventListener("load", () => { document.querySelector("figure img").click(); document.title = '
        '`${document.documentElement.scrollWidth <= innerWidth} ${document.images.length} '
        '${[...document.images].slice(0, -1).every(i => i.naturalWidth > 50)} ${large.open}` })</script></body>'
    )
    probe.write_text(text.replace('</body>', measure), encoding='utf-8')
    options: list[Any] = [
        '--headless', '--no-sandbox', '--disable-gpu', '--enable-logging=stderr', '--dump-dom',
        f'--user-data-dir={tmp_path / "profile"}', f'--window-size={width},900',
        *(['--force-dark-mode'] if dark else []),
    ]  # fmt: skip
    done = subprocess.run(
        [str(BROWSER), *options, probe.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert 'CONSOLE' not in done.stderr
    title = re.search('<title>(.*?)</title>', done.stdout)
    count = text.count('<img')
    assert title and title[1] == f'true {count} true true'
