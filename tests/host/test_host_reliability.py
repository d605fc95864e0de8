"""What a reconstruction inside Ptychodus leaves beside the object: reliability, moved positions, an ensemble."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from host_sessions import PIXEL, Case, Host, small_case, unstarted
from numpy.typing import NDArray
from ptychodus.api.object import Object
from ptychodus.api.product import Product
from ptychodus.api.reconstruct import ReconstructInput

from ptychopinn_reconstructor.errors import ModelFileError, ScanError
from ptychopinn_reconstructor.host.last_reliability import ReliabilityRecord
from ptychopinn_reconstructor.host.releases import list_indexes, map_to_pixels
from ptychopinn_reconstructor.reconstruction.diagnostics import Reliability

pytestmark = pytest.mark.slow


@pytest.fixture
def host(model: Path) -> Host:
    return unstarted(**{'PtychoPINNInference.ModelPath': model})


def infer(host: Host, data: ReconstructInput) -> Product:
    """The last product that Infer gives."""
    *_, last = host.library.reconstructors[0].reconstruct(data)
    host.model.run_tasks()
    return last.product


def record_of(host: Host) -> tuple[ReliabilityRecord, Reliability]:
    record = host.library.session.reliability.record
    assert record is not None
    return record, record.reliability()


def test_the_session_knows_how_far_to_trust_the_last_reconstruction(host: Host, case: Case) -> None:
    """The line of the product's comments, and what the pictures are drawn from; observers hear of it."""
    reliability, heard = host.library.session.reliability, []

    class Listener:
        def _update(self, observable: object) -> None:
            heard.append(observable)

    listener: Any = Listener()
    reliability.add_observer(listener)
    assert reliability.record is None
    product = infer(host, case.input)
    record, whole = record_of(host)
    assert heard == [reliability] and record.product == 'demo' and record.line in product.metadata.comments
    assert record.verdict is not None and record.verdict.sentence in product.metadata.comments
    assert any(record.verdict.sentence in line for line in host.log())
    assert len(whole.misfit.per_pattern) == len(case.scan) == len(whole.positions)
    assert whole.line() == record.line and whole.uncertainty is not None and whole.source == 'patches'
    assert whole.coverage.shape == whole.uncertainty.shape and 0.3 < whole.coverage.mean() < 1
    assert whole.split is None and whole.pixel_size == (PIXEL, PIXEL)
    host.set(**{'PtychoPINNPlugin.SplitFrc': True})
    infer(host, case.input)
    record, whole = record_of(host)
    assert len(heard) == 2 and whole.split is not None and 'half-data FRC' in record.line


def rms(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """What two sets of positions differ by beyond a common shift, in pixels."""
    difference = one - other
    return float(np.sqrt(((difference - difference.mean(axis=0)) ** 2).mean()))


def test_moved_positions_are_in_the_product(host: Host) -> None:
    """RefinePositions: nearer to the true ones than those handed in; without it they come back bit by bit."""
    case = small_case(photons=1e6)
    true = case.scan.positions
    off = np.random.default_rng(0).normal(size=true.shape)
    wrong = Case.of(replace(case.scan, positions=true + off))
    geometry = wrong.product.object_.get_geometry()
    before = wrong.product.probe_positions
    same = infer(host, wrong.input).probe_positions
    assert np.array_equal(map_to_pixels(geometry, same), map_to_pixels(geometry, before))
    host.set(**{'PtychoPINNPlugin.RefinePositions': True})
    product = infer(host, wrong.input)
    after = map_to_pixels(product.object_.get_geometry(), product.probe_positions)
    assert rms(after, true) < 0.6 * rms(true + off, true)
    assert np.array_equal(list_indexes(product.probe_positions), list_indexes(before))
    assert 'positions moved by' in product.metadata.comments


def test_further_models_are_an_ensemble(host: Host, case: Case, folder: Path, model: Path, tmp_path: Path) -> None:
    """The uncertainty is then what the models differ; a model named twice, or for another N, is refused."""
    host.set(**{'PtychoPINNPlugin.Seed': 5, 'PtychoPINNPlugin.RefinePasses': 0})
    pinn = host.library.reconstructors[0]
    list(pinn.train(folder, tmp_path))
    host.model.run_tasks()  # from here on the new one is in use
    other = tmp_path / 'model.safetensors'
    objects = []
    for path in (model, other):
        host.set(**{'PtychoPINNInference.ModelPath': path, 'PtychoPINNPlugin.FurtherModels': ''})
        objects.append(infer(host, case.input).object_.get_array()[0])
    host.set(**{'PtychoPINNInference.ModelPath': model, 'PtychoPINNPlugin.FurtherModels': f' {other} '})
    both = infer(host, case.input)
    mean = both.object_.get_array()[0]
    apart = np.abs(objects[0] - objects[1]).max()
    assert apart > 0.05 and max(np.abs(mean - each).max() for each in objects) < 0.9 * apart
    record, whole = record_of(host)
    assert whole.source == 'models' and 'models disagree by' in record.line and record.line in both.metadata.comments
    for named, words in (
        (model, 'named twice'),
        (f'{other}:{other}', 'named twice'),
        (tmp_path / 'absent.safetensors', r'absent\.safetensors'),
    ):
        host.set(**{'PtychoPINNPlugin.FurtherModels': str(named)})
        with pytest.raises(ModelFileError, match=words):
            next(iter(pinn.reconstruct(case.input)))


def test_the_object_of_the_product_is_refined_without_a_model(host: Host, case: Case) -> None:
    """From the network's object on, and from the flat one of the scan; a product that has none is refused."""
    first = infer(host, case.input)
    host.set(**{'PtychoPINNInference.ModelPath': '', 'PtychoPINNPlugin.StartFromObject': True})
    host.set(**{'PtychoPINNPlugin.RefinePasses': 1})
    pinn = host.library.reconstructors[0]
    assert pinn.is_model_loaded() and pinn.model is None
    residuals = []
    for product in (first, case.input.product):
        refined = infer(host, replace(case.input, product=product))
        record, whole = record_of(host)
        assert record.line in refined.metadata.comments and whole.source == 'result'
        assert refined.object_.get_array().shape == first.object_.get_array().shape
        residuals.append(whole.misfit.overall)
    assert residuals[0] < residuals[1]  # it has gone on from where the network was
    empty = replace(case.input.product, object_=Object(None, None, None))
    with pytest.raises(ScanError, match='has no object'):
        next(iter(pinn.reconstruct(replace(case.input, product=empty))))
