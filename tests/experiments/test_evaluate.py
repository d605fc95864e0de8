"""MS-SSIM by hand, and several results side by side against a truth (clause METRICS)."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import imread
from scans import small_scan

from ptychopinn_reconstructor.errors import InputError, ScanError
from ptychopinn_reconstructor.experiments.evaluate import evaluate_files, shorten_paths
from ptychopinn_reconstructor.io import ObjectFile, read_object, write_npz, write_product
from ptychopinn_reconstructor.physics.scoring.similarity import SCALE_WEIGHTS, count_scales, ms_ssim
from ptychopinn_reconstructor.reconstruction.evaluate import evaluate
from ptychopinn_reconstructor.result import Reconstruction
from ptychopinn_reconstructor.scan import Scan

# --- MS-SSIM ---------------------------------------------------------------------------------------------------------


def test_the_number_of_scales_follows_the_shorter_side() -> None:
    """Five need 176 pixels: 176, 88, 44, 22, 11."""
    assert [count_scales((side, 500)) for side in (10, 11, 21, 22, 175, 176, 4000)] == [0, 1, 1, 2, 4, 5, 5]
    assert sum(SCALE_WEIGHTS) == pytest.approx(1.0, abs=2e-4), 'those of the paper, as they are rounded there'


@pytest.mark.parametrize(('side', 'exponent'), [(180, 0.1333), (16, 1.0), (40, 0.2856 / (0.0448 + 0.2856))])
def test_flat_images_differ_by_luminance_at_the_coarsest_scale_alone(side: int, exponent: float) -> None:
    a, b, c1 = 0.7, 0.9, (0.01 * 0.4) ** 2
    luminance = (2 * a * b + c1) / (a**2 + b**2 + c1)
    found = ms_ssim(np.full((side, side + 3), a), np.full((side, side + 3), b), 0.4)
    assert found == pytest.approx(luminance**exponent, rel=1e-9)


def test_a_checkerboard_of_twice_the_contrast_differs_at_the_finest_scale_alone() -> None:
    """Means of 2 x 2 pixels are flat; at the finest scale the variance is 1 within a window, to its edge effects."""
    checker = np.where(np.indices((200, 200)).sum(axis=0) % 2, 1.0, -1.0)
    c2 = 0.03**2
    contrast = (2 * 2 + c2) / (1 + 4 + c2)
    assert ms_ssim(2 * checker, checker, 1.0) == pytest.approx(contrast**0.0448, abs=1e-5)
    assert ms_ssim(-checker, checker, 1.0) == 0.0, 'a mean structure below 0 counts as 0'


def direct_ms_ssim(a: NDArray[np.float64], b: NDArray[np.float64], data_range: float, scales: int) -> float:
    """As the paper has it, window by window."""
    offset = np.arange(-5, 6)
    kernel = np.exp(-(offset[:, None] ** 2 + offset**2) / (2 * 1.5**2))
    kernel /= kernel.sum()
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    value, weights = 1.0, np.array(SCALE_WEIGHTS[:scales]) / sum(SCALE_WEIGHTS[:scales])
    for scale in range(scales):
        terms = []
        for row, col in np.ndindex(a.shape[0] - 10, a.shape[1] - 10):
            x, y = (image[row : row + 11, col : col + 11] for image in (a, b))
            mx, my = (kernel * x).sum(), (kernel * y).sum()
            vx, vy, cov = ((kernel * p).sum() for p in ((x - mx) ** 2, (y - my) ** 2, (x - mx) * (y - my)))
            cs = (2 * cov + c2) / (vx + vy + c2)
            terms.append(cs * (2 * mx * my + c1) / (mx**2 + my**2 + c1) if scale == scales - 1 else cs)
        value *= np.mean(terms) ** weights[scale]
        a, b = (im.reshape(im.shape[0] // 2, 2, im.shape[1] // 2, 2).mean(axis=(1, 3)) for im in (a, b))
    return float(value)


def test_it_is_that_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(48, 56)).cumsum(axis=0).cumsum(axis=1) / 50
    image = truth + 0.1 * rng.normal(size=truth.shape) + 0.05
    assert count_scales(truth.shape) == 3
    assert ms_ssim(image, truth, 2.4) == pytest.approx(direct_ms_ssim(image, truth, 2.4, 3), rel=1e-9)
    assert ms_ssim(truth, truth, 2.4) == pytest.approx(1.0)


# --- figures as reconstructed, margin, pixel size ---------------------------------------------------------------------


@pytest.fixture(scope='module')
def scan() -> Scan:
    return small_scan(n=64, positions=144, step=8.0, jitter=2.0)


def spoiled(scan: Scan, noise: float, **changes: Any) -> Reconstruction:
    """The true object with noise, a global phase, and 1.1 times the amplitude, as a product."""
    assert scan.object is not None and scan.probe is not None
    rng = np.random.default_rng(0)
    made = scan.object * (1 + noise * rng.normal(size=scan.object.shape)) * 1.1 * np.exp(0.5j)
    fields: dict[str, Any] = {'pixel_size': scan.pixel_size, **changes}
    return Reconstruction(made.astype(np.complex64), scan.object_origin, scan.probe, scan.positions, **fields)


def test_raw_figures_keep_what_is_removed_from_the_others(scan: Scan) -> None:
    assert scan.object is not None
    truth = ObjectFile(scan.object, scan.object_origin, scan.positions)
    made = spoiled(scan, 0.0)
    found = evaluate(ObjectFile(made.object, made.origin), truth, margin=4)
    values = found.to_dict()
    assert values['amplitude_ratio'] == pytest.approx(1.1, rel=1e-4) == values['amplitude_ratio_raw']
    assert values['amplitude_mae'] < 1e-4 and values['phase_mae'] < 1e-3
    assert values['amplitude_mae_raw'] == pytest.approx(0.1 * np.abs(found.truth).mean(), rel=1e-3)
    assert values['phase_mae_raw'] == pytest.approx(0.5, abs=1e-4)
    assert values['phase_psnr_raw'] == pytest.approx(20 * np.log10(2.4 / 0.5), abs=1e-2)
    # The phase of the correlation is lost: every shell has the cosine of it.
    assert values['frc_area_raw'] == pytest.approx(np.cos(0.5), abs=0.01) and values['frc_area'] > 0.999
    assert values['amplitude_ssim_raw'] < values['amplitude_ssim'] and values['phase_ms_ssim_raw'] < 1


@pytest.mark.parametrize(('n_pixels', 'margin'), [(128, 8), (64, 4), (None, 4), (32, 2)])
def test_the_margin_is_a_sixteenth_of_the_pattern(scan: Scan, n_pixels: int | None, margin: int) -> None:
    assert scan.object is not None
    truth = ObjectFile(scan.object, scan.object_origin, scan.positions)
    found = evaluate(replace(truth, n_pixels=n_pixels), truth)
    assert found.truth.shape == evaluate(truth, truth, margin=margin).truth.shape


def test_the_side_of_the_patterns_and_the_pixel_size_come_from_the_files(scan: Scan, tmp_path: Path) -> None:
    """A nominal pixel size is none."""
    write_npz(tmp_path / 'scan.npz', scan)
    assert read_object(tmp_path / 'scan.npz').n_pixels == 64
    sized = spoiled(scan, 0.0, pixel_size=(2e-8, 2e-8))
    write_product(tmp_path / 'sized.h5', sized)
    write_product(tmp_path / 'nominal.h5', spoiled(scan, 0.0))
    read = read_object(tmp_path / 'sized.h5')
    assert read.n_pixels == 64 and read.pixel_size == pytest.approx((2e-8, 2e-8))
    assert read_object(tmp_path / 'nominal.h5').pixel_size is None


# --- several results -------------------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def files(scan: Scan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A truth and three results: two of known noise, one that does not belong here."""
    folder = tmp_path_factory.mktemp('results')
    write_npz(folder / 'truth.npz', replace(scan, pixel_size=(1e-8, 1e-8)))
    for name, noise in (('good', 0.01), ('bad', 0.1)):
        (folder / name).mkdir()
        write_product(folder / name / 'product.h5', spoiled(scan, noise))
    other = spoiled(scan, 0.01)
    write_product(folder / 'elsewhere.h5', replace(other, object=other.object[:90, :90]))
    return folder


def test_results_are_compared_side_by_side(files: Path) -> None:
    found = evaluate_files([files / 'good', files / 'bad' / 'product.h5'], files / 'truth.npz')
    values = found.to_json()
    good, bad = values['results']
    assert (good['name'], bad['name']) == ('good', 'bad') and values['truth'] == str(files / 'truth.npz')
    for key in ('amplitude_psnr', 'amplitude_ssim', 'amplitude_ms_ssim'):
        assert good[key] > bad[key] + 0.03
    half = bad['frc']['resolution']['half']
    assert half['nm'] == pytest.approx(10 * half['pixels']), 'the size of a pixel is that of the truth'
    assert len(bad['frc']['curve']['correlation']) == len(bad['frc_raw']['curve']['frequency'])
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    alone = evaluate_files([files / 'bad' / 'product.h5'], files / 'truth.npz').to_json()['results'][0]
    assert alone == bad


def test_a_result_can_take_the_place_of_the_truth(files: Path) -> None:
    same, other = evaluate_files([files / 'good', files / 'bad'], files / 'good').to_json()['results']
    assert same['frc_area'] == pytest.approx(1) and same['amplitude_ratio'] == pytest.approx(1)
    assert other['frc_area'] < 0.99


def test_a_result_that_cannot_be_compared_is_named(files: Path) -> None:
    with pytest.raises(InputError, match=r'elsewhere\.h5: The scan covers'):
        evaluate_files([files / 'good', files / 'elsewhere.h5'], files / 'truth.npz')
    with pytest.raises(InputError, match=r'^The scan covers'):
        evaluate_files([files / 'elsewhere.h5'], files / 'truth.npz')
    with pytest.raises(ScanError, match=r'no such file|There is no'):
        evaluate_files([files / 'nothing.h5'], files / 'truth.npz')


@pytest.mark.parametrize(
    ('paths', 'names'),
    [
        (['/a/star/product.h5'], ['star']),
        (['/a/one/product.h5', '/a/two/product.h5', '/a/three.npz'], ['one', 'two', 'three']),
        (['/a/one/refined/product.h5', '/a/two/refined/product.h5'], ['one/refined', 'two/refined']),
        (['/a/same.npz', '/a/same.npz'], ['a/same', 'a/same (2)']),
    ],
)
def test_names_tell_results_apart(paths: list[str], names: list[str]) -> None:
    found = shorten_paths([Path(path) for path in paths])
    assert len(set(found)) == len(found)
    assert [name.lstrip('/') for name in found] == names


@pytest.mark.slow
def test_the_picture_shows_truth_results_and_differences(files: Path, tmp_path: Path) -> None:
    found = evaluate_files([files / 'good', files / 'bad'], files / 'truth.npz')
    picture = imread(found.write_picture(tmp_path / 'all.png'))[..., :3]
    one = imread(evaluate_files([files / 'good'], files / 'truth.npz').write_picture(tmp_path / 'one.png'))
    assert picture.shape[1] > one.shape[1] and picture.shape[0] > 1000
    # The amplitude's difference is drawn in red and blue: there is far more of it in the last column, of the bad one.
    colorful = (picture.max(axis=2) - picture.min(axis=2)) > 0.3
    rows = slice(int(0.42 * len(picture)), int(0.56 * len(picture)))
    thirds = np.array_split(colorful[rows, : int(0.86 * picture.shape[1])], 3, axis=1)
    empty, good, bad = (float(part.mean()) for part in thirds)
    assert empty < 0.01 < bad and bad > 5 * good


@pytest.mark.slow
def test_the_command_line_writes_table_json_and_picture(files: Path, tmp_path: Path) -> None:
    line = [str(files / 'good'), str(files / 'bad'), '--truth', str(files / 'truth.npz')]

    def run(*extra: str) -> str:
        script = 'import sys; from ptychopinn_reconstructor.cli.main import main; main(sys.argv[1:])'
        done = subprocess.run(
            [sys.executable, '-c', script, 'evaluate', *line, *extra], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    text = run('--picture', str(tmp_path / 'p.png'))
    assert 'MS-SSIM' in text and 'as reconstructed' in text and 'good' in text and (tmp_path / 'p.png').exists()
    assert ' nm' in text
    expected = evaluate_files([files / 'good', files / 'bad'], files / 'truth.npz').to_json()
    assert json.loads(run('--json'))['results'] == expected['results']
