"""Pretraining for the selected product's probe, and training from a model, inside Ptychodus."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from host_sessions import PINN, TITLES, Case, Host, run_command, session, small_case, unstarted
from ptychodus.api.object import Object
from ptychodus.api.probe import ProbeSequence
from ptychodus.api.product import Product

from ptychopinn_reconstructor.backend import find_missing_modules
from ptychopinn_reconstructor.errors import ConfigError, ModelFileError, OutputError
from ptychopinn_reconstructor.host.scans import HostScan
from ptychopinn_reconstructor.model_file.opening import open_model
from ptychopinn_reconstructor.model_file.probes import correlate_probes

SHORT: dict[str, Any] = {
    'PtychoPINNPlugin.Source': 'procedural',
    'PtychoPINNPlugin.NGroups': 128,
    'PtychoPINNTraining.NumEpochs': 2,
}


@dataclass(frozen=True)
class Pretrained:
    """What a session of pretraining and inference has left, and what its log has said."""

    folder: Path
    products: list[Product]
    found: Product
    log: list[str]

    @property
    def model(self) -> Path:
        return self.folder / 'model.safetensors'


@pytest.fixture(scope='session')
def pretrained_with(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Pretrain in an empty folder for the probe of the selected product, then infer on it, once for each backend."""

    @cache
    def run(backend: str) -> Pretrained:
        if missing := find_missing_modules(backend):
            pytest.skip(f'{TITLES[backend]} is not installed: {", ".join(missing)}')
        out = tmp_path_factory.mktemp(f'pretrained-{backend}')
        with session(None, backend, **SHORT) as host:
            product = host.open(folder)
            product.train_reconstructor_local(out, out, algorithm=PINN, block=True)
            products = host.products()
            found = product.reconstruct_local(algorithm=PINN, block=True).get_product()
            return Pretrained(out, products, found, host.log())

    return run


@pytest.fixture(params=list(TITLES))
def pretrained(request: pytest.FixtureRequest, pretrained_with: Any) -> Pretrained:
    return pretrained_with(request.param)  # type: ignore[no-any-return]


@pytest.mark.slow
def test_the_model_is_for_the_probe_of_the_selected_product(pretrained: Pretrained, case: Case) -> None:
    """No scan is trained on; what the model says of itself, and the files that a pretraining leaves."""
    model = open_model(pretrained.model)
    training, config = model.manifest.training, model.manifest.config
    assert config.data.source == 'procedural' and config.model.model_type == 'supervised'
    assert training.scans == ('procedural objects',) and training.patterns_seen == 2 * 128
    assert [epoch for epoch, _ in training.losses] == [1, 2]
    assert case.scan.probe is not None and correlate_probes(model.probe, case.scan.probe) > 0.999
    assert model.manifest.trained_for.counts is not None
    low, high = model.manifest.trained_for.counts
    assert low < case.scan.mean_counts / 2 and high > 2 * case.scan.mean_counts
    assert {'model.safetensors', 'probe.npz', 'config.yaml', 'metrics.csv'} <= {
        path.name for path in pretrained.folder.iterdir()
    }


@pytest.mark.slow
def test_infer_works_at_once_with_a_pretrained_model(pretrained: Pretrained, case: Case) -> None:
    """On the selected product; the log says which model it is, and warns of nothing but how little it has learned."""
    found = pretrained.found
    assert found.object_.get_geometry() == case.product.object_.get_geometry()
    assert np.ptp(np.abs(found.object_.get_array())) > 0.01
    assert [loss.epoch for loss in found.losses] == [1, 2]
    log = '\n'.join(pretrained.log)
    assert "Pretraining for the probe of the selected product 'demo'." in log and 'Epoch 2 of 2: loss' in log
    assert re.search(
        r'model\.safetensors: supervised, .* pretrained for its probe \(256 simulated patterns, 2 epochs\)', log
    )
    warned = [line for line in pretrained.log if '[WARNING]' in line or '[ERROR]' in line]
    assert len(warned) == 1 and 'Trained: held-out patterns fit' in warned[0] and "train longer ('Epochs')" in warned[0]


@pytest.mark.slow
def test_the_product_that_has_shown_a_pretraining_is_the_scan_s_again(pretrained: Pretrained, case: Case) -> None:
    """Its object is the user's, so that Infer and Train on it are right; its losses are the pretraining's."""
    shown = pretrained.products[1]
    assert shown.metadata.name == f'demo_{PINN}_training' and [loss.epoch for loss in shown.losses] == [1, 2]
    assert shown.object_.get_geometry() == case.product.object_.get_geometry()
    assert np.array_equal(shown.object_.get_array(), case.product.object_.get_array())


class Watched:
    """Where the host would show a training."""

    def __init__(self) -> None:
        self.objects: list[Object | None] = []
        self.losses: list[list[tuple[int, float]]] = []
        self.held_out: list[tuple[int, float]] = []

    def show(
        self, scan: HostScan, preview: Object | None, losses: list[tuple[int, float]], *, last: bool = False
    ) -> None:
        self.objects.append(preview)
        self.losses.append(losses)


@contextmanager
def watching(host: Host, case: Case) -> Iterator[Watched]:
    """While the host runs a training on the product of `case`."""
    watched = Watched()
    with host.library.session.training_on(case.input):
        host.library.session.training = watched
        yield watched


@pytest.mark.slow
def test_the_preview_of_a_pretraining_is_a_simulated_object(case: Case, folder: Path, tmp_path: Path) -> None:
    """On a canvas of its own, about the center of the product's; the product comes first, files in the folder do not
    count; with a script and no product it is the instrument of the first file.
    """
    host = unstarted(**SHORT)
    pinn = host.library.reconstructors[0]
    with watching(host, case) as watched:
        outputs = list(pinn.train(folder, tmp_path / 'out'))
    assert [output.progress for output in outputs] == [1, 2]
    assert all(output.validation_loss[-1].value > 0 for output in outputs)
    seen = [each for each in watched.objects[:-1] if each is not None]
    assert seen and watched.objects[-1] is case.product.object_ and len(watched.losses[-1]) == 2
    for each in seen:
        geometry, own = each.get_geometry(), case.product.object_.get_geometry()
        assert np.iscomplexobj(each.get_array()) and np.ptp(np.abs(each.get_array())) > 0.01
        assert (geometry.height_px, geometry.width_px) != (own.height_px, own.width_px)
        assert geometry.get_center() == own.get_center()
        assert geometry.get_pixel_geometry() == own.get_pixel_geometry()
    assert "the selected product 'demo'" in '\n'.join(host.log())
    list(pinn.train(folder, tmp_path / 'other'))
    assert f'Pretraining for the probe of {folder.name}.' in '\n'.join(host.log())
    mine, other = (open_model(tmp_path / name / 'model.safetensors').weights for name in ('out', 'other'))
    assert all(np.allclose(mine[name], other[name], atol=1e-5) for name in mine)


@pytest.mark.slow
def test_a_pretraining_is_resumed_for_the_same_probe_only(case: Case, tmp_path: Path) -> None:
    """With either algorithm; the probe is that of the folder, and another one is refused in a sentence."""
    host = unstarted(**SHORT | {'PtychoPINNTraining.NumEpochs': 1})
    pinn, supervised = host.library.reconstructors
    (tmp_path / 'in').mkdir()
    out = tmp_path / 'out'
    with watching(host, case):
        list(pinn.train(tmp_path / 'in', out))
        host.set(**{'PtychoPINNPlugin.Resume': True, 'PtychoPINNTraining.NumEpochs': 2})
        (resumed,) = pinn.train(tmp_path / 'in', out)
        assert resumed.progress == 2 and [loss.epoch for loss in resumed.training_loss] == [1, 2]
        host.set(**{'PtychoPINNPlugin.Source': 'scans'})
        with pytest.raises(ConfigError, match='source is procedural, not scans'):
            list(supervised.train(tmp_path / 'in', out))
    host.set(**SHORT | {'PtychoPINNTraining.NumEpochs': 3})
    probes = case.product.probes
    flat = ProbeSequence(np.abs(probes.get_array()).astype(complex), None, probes.get_pixel_geometry())
    with watching(host, case.with_product(probes=flat)), pytest.raises(ConfigError, match='for another probe'):
        list(pinn.train(tmp_path / 'in', out))
    assert any('[ERROR]' in line and 'for another probe' in line for line in host.log())
    assert [epoch for epoch, _ in open_model(out / 'model.safetensors').manifest.training.losses] == [1, 2]


# Training from a model


@pytest.fixture
def start(pretrained_with: Any) -> Path:
    return pretrained_with('torch').model  # type: ignore[no-any-return]


@pytest.mark.slow
def test_a_training_that_starts_from_a_model_takes_its_network_and_weights(
    case: Case, start: Path, tmp_path: Path
) -> None:
    """A pretrained one, by PINN, on the scan, whatever network the panel describes; a rate of 1e-6 hardly moves it."""
    host = unstarted(
        **{'PtychoPINNInference.ModelPath': start, 'PtychoPINNPlugin.StartFromModel': True},
        **{'PtychoPINNModel.NumFiltersScale': 2, 'PtychoPINNPlugin.LearningRate': 1e-6},
        **{'PtychoPINNTraining.NumEpochs': 1},
    )
    (tmp_path / 'in').mkdir()
    with watching(host, case):
        (output,) = host.library.reconstructors[0].train(tmp_path / 'in', tmp_path / 'out')
    before, after = open_model(start), open_model(tmp_path / 'out' / 'model.safetensors')
    assert output.progress == 1 and after.manifest.config.model.n_filters_scale == 1
    assert all(np.abs(after.weights[name] - before.weights[name]).max() < 1e-4 for name in before.weights)
    assert after.manifest.config.model.model_type == 'pinn' and after.manifest.training.scans == ('demo',)
    log = '\n'.join(host.log())
    assert 'The training starts from model.safetensors: supervised' in log
    assert '[PtychoPINNModel] NumFiltersScale = 2.0 is not used: the model has 1.0.' in log


@pytest.mark.slow
@pytest.mark.parametrize(('settings', 'rate'), [({}, 5e-4), ({'PtychoPINNPlugin.LearningRate': 1e-3}, 1e-3)])
def test_a_training_that_starts_from_a_model_has_a_rate_of_its_own(
    case: Case, start: Path, tmp_path: Path, settings: dict[str, Any], rate: float
) -> None:
    """Unless the user has changed it; resumed, it knows the model that it started from, whatever the settings say."""
    host = unstarted(
        **{'PtychoPINNInference.ModelPath': start, 'PtychoPINNPlugin.StartFromModel': True},
        **{'PtychoPINNTraining.NumEpochs': 1, 'PtychoPINNModel.NumFiltersScale': 2},
        **settings,
    )
    pinn, out = host.library.reconstructors[0], tmp_path / 'out'
    (tmp_path / 'in').mkdir()
    with watching(host, case):
        list(pinn.train(tmp_path / 'in', out))
        first = open_model(out / 'model.safetensors').manifest
        assert first.config.training.learning_rate == rate
        assert ('Learning rate 0.0005, the default of' in '\n'.join(host.log())) == (rate == 5e-4)
        host.set(**{'PtychoPINNPlugin.StartFromModel': False, 'PtychoPINNPlugin.Resume': True})
        host.set(**{'PtychoPINNTraining.NumEpochs': 2})
        (resumed,) = pinn.train(tmp_path / 'in', out)
    second = open_model(out / 'model.safetensors').manifest
    assert resumed.progress == 2 and second.config.training.learning_rate == rate
    assert second.training.start_residual == pytest.approx(first.training.start_residual)
    assert (out / 'start.safetensors').read_bytes() == start.read_bytes()


def test_a_start_that_cannot_be_is_refused_before_a_worker_starts(case: Case, start: Path, tmp_path: Path) -> None:
    """No model, one that is not there, one for another N."""
    host = unstarted(**{'PtychoPINNPlugin.StartFromModel': True})
    pinn = host.library.reconstructors[0]
    other = small_case(n=64, positions=9)
    for path, scan, words in (
        (Path('/path/to/model.zip'), case, 'No model is loaded'),
        (tmp_path / 'absent.safetensors', case, r'absent\.safetensors does not exist'),
        (start, other, r'N = 32 .* has 64'),
    ):
        host.set(**{'PtychoPINNInference.ModelPath': path, 'PtychoPINNPlugin.ScratchDir': str(tmp_path / 'none')})
        with watching(host, scan), pytest.raises(ModelFileError, match=words):
            list(pinn.train(tmp_path, tmp_path / 'out'))
        assert any('[ERROR]' in line for line in host.log())
    with watching(host, case), pytest.raises(OutputError, match='scratch space'):
        host.set(**{'PtychoPINNInference.ModelPath': start})
        list(pinn.train(tmp_path, tmp_path / 'out'))
    assert not (tmp_path / 'out').exists()


@pytest.mark.slow
def test_batch_mode_pretrains(case: Case, start: Path, tmp_path: Path) -> None:
    """By the keys of an INI file alone: the same network as by a script."""
    given = case.write(tmp_path / 'in')
    values = SHORT | {
        'PtychoPINNModel.NumFiltersScale': 1,
        'PtychoPINNPlugin.Device': 'cpu',
        'Processing.Algorithm': PINN,
    }
    sections: dict[str, list[str]] = {}
    for name, value in values.items():
        section, key = name.split('.')
        sections.setdefault(section, []).append(f'{key} = {value}')
    text = '\n'.join(f'[{section}]\n' + '\n'.join(lines) for section, lines in sections.items())
    (given / 'settings.ini').write_text(text)
    run_command('ptychodus', '-b', 'train', '-i', given, '-o', tmp_path / 'out')
    mine, theirs = open_model(tmp_path / 'out' / 'model.safetensors'), open_model(start)
    assert mine.manifest.training.scans == ('procedural objects',)
    assert all(np.allclose(mine.weights[name], theirs.weights[name], atol=1e-5) for name in theirs.weights)
