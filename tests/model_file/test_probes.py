"""Whose probe is used: the one given, that of the scan, or that of the model; and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from model_files import MODES, N, forge, parts
from numpy.typing import NDArray

from ptychopinn_reconstructor.errors import ScanError
from ptychopinn_reconstructor.model_file import probes
from ptychopinn_reconstructor.model_file.opening import Model, open_model
from ptychopinn_reconstructor.scan import Scan


def draw_probe(seed: int, modes: int = MODES, side: int = N) -> NDArray[np.complex64]:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(modes, side, side)) + 1j * rng.normal(size=(modes, side, side))).astype(np.complex64)


def scan_with(probe: NDArray[np.complex64] | None, side: int = N) -> Scan:
    return Scan(np.ones((4, side, side), np.float32), np.arange(8.0).reshape(4, 2), probe)


@pytest.fixture
def model(model_file: Path) -> Model:
    return open_model(model_file)


def trained_with(path: Path, **scaling: object) -> Model:
    """The model of a training that says otherwise which probes it knows."""
    return open_model(forge(path, lambda manifest: manifest['scaling'].update(scaling)))


def test_the_correlation_is_of_the_strongest_modes() -> None:
    a, b = draw_probe(0), draw_probe(1)
    weak = 1e-3 * draw_probe(2)
    assert probes.correlate_probes(a, 3j * a) == pytest.approx(1)
    assert probes.correlate_probes(np.stack([weak[0], a[0]]), np.stack([a[0], weak[1]])) == pytest.approx(1)
    one, two = a[:1].astype(complex), b[:1].astype(complex)
    expected = abs((one.conj() * two).sum()) / np.sqrt((abs(one) ** 2).sum() * (abs(two) ** 2).sum())
    assert probes.correlate_probes(a[:1], b[:1]) == pytest.approx(expected) and expected < 0.5


def test_the_hash_is_of_the_values() -> None:
    probe = draw_probe(0)
    assert probes.hash_probe(probe) == probes.hash_probe(np.asfortranarray(probe).astype(complex))
    assert probes.hash_probe(probe) != probes.hash_probe(np.nextafter(probe.real, 9) + 1j * probe.imag)


def test_two_scans_share_a_probe_when_each_has_the_same() -> None:
    one, other = (scan_with(draw_probe(seed)) for seed in (0, 1))
    assert probes.have_same_probe(one, scan_with(draw_probe(0)))
    assert not probes.have_same_probe(one, other)
    bare = scan_with(None)
    assert not probes.have_same_probe(one, bare) and not probes.have_same_probe(bare, one)
    assert not probes.have_same_probe(bare, bare), 'nobody knows'


def test_the_probe_given_comes_first_then_that_of_the_scan(model: Model) -> None:
    given, own = draw_probe(5), draw_probe(6)
    chosen, source, notices = probes.choose_probe(scan_with(own), model, given)
    assert chosen is given and source == 'given'
    (notice,) = notices
    correlation = probes.correlate_probes(given, model.probe)
    assert notice.code == 'probe_shape' and notice.text.startswith('The probe given differs')
    assert f'{correlation:.3f}' in notice.text
    chosen, source, notices = probes.choose_probe(scan_with(own), model, None)
    assert source == 'scan' and np.array_equal(chosen, own) and notices[0].text.startswith("The scan's probe differs")


def test_a_scan_without_a_probe_takes_that_of_the_model(model: Model) -> None:
    chosen, source, (notice,) = probes.choose_probe(scan_with(None), model, None)
    assert chosen is model.probe and source == 'model' and notice.code == 'probe_of_model'


def test_a_guess_that_the_training_refined_gives_way(model_file: Path) -> None:
    guess = draw_probe(7)
    model = trained_with(model_file, refined_from=probes.hash_probe(guess))
    chosen, source, (notice,) = probes.choose_probe(scan_with(guess), model, None)
    assert chosen is model.probe and source == 'model' and notice.code == 'refined_probe'
    assert probes.choose_probe(scan_with(None), model, guess)[1:] == ('given', []), 'known to the training'


@pytest.mark.parametrize('field', ['refined_from', 'other_probes'])
def test_probes_of_the_training_are_no_strangers(model_file: Path, field: str) -> None:
    stranger = draw_probe(8)
    digest = probes.hash_probe(stranger)
    model = open_model(model_file)
    assert probes.find_probe_mismatch(stranger, model) == pytest.approx(probes.correlate_probes(stranger, model.probe))
    known = trained_with(model_file, **{field: digest if field == 'refined_from' else ['e' * 64, digest]})
    assert probes.find_probe_mismatch(stranger, known) is None
    assert probes.find_probe_mismatch(2 * model.probe, model) is None, 'the same but for its power'


def test_a_correlation_of_98_percent_is_the_same_probe(model: Model) -> None:
    first = np.abs(model.probe) + 0j
    alike = replace(model, probe=first[:1].astype(np.complex64))
    noise = draw_probe(9, modes=1)
    noise -= first[:1] * np.vdot(first[0], noise[0]) / np.vdot(first[0], first[0])  # at a right angle
    noise *= np.linalg.norm(first[0]) / np.linalg.norm(noise)
    for correlation, found in ((0.981, False), (0.979, True)):
        probe = (correlation * first[:1] + np.sqrt(1 - correlation**2) * noise).astype(np.complex64)
        assert (probes.find_probe_mismatch(probe, alike) is not None) == found


def test_another_number_of_modes_is_told(model: Model) -> None:
    strongest = int(np.argmax((np.abs(model.probe) ** 2).sum(axis=(1, 2))))
    notices = probes.choose_probe(scan_with(None), model, model.probe[strongest : strongest + 1])[2]
    assert [notice.code for notice in notices] == ['probe_modes']
    assert 'has 1 mode(s), that of the training 2' in notices[0].text


def test_a_probe_of_another_size_is_refused(model: Model) -> None:
    """Whosever it is."""
    small = draw_probe(0, side=8)
    for scan, given, size in ((scan_with(None), small, (8, N)), (scan_with(None, 32), None, (N, 32))):
        with pytest.raises(ScanError, match=f'is {size[0]} pixels wide but the patterns are {size[1]}'):
            probes.choose_probe(scan, model, given)


def test_what_the_model_file_holds_is_what_was_written(model: Model) -> None:
    assert np.array_equal(model.probe, parts()['probe'])
