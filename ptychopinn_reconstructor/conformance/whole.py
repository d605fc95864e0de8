"""Trainings of a backend in the pipeline, and the model files that they leave."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ..backend import Backend
from ..errors import ConfigError, Interrupted, ModelFileError, ScanError
from ..model_file.opening import open_model
from ..model_file.trained import verify_model
from ..physics.prepare import prepare_scan
from ..reconstruction.reconstruct import reconstruct
from ..training.train import train
from . import jobs
from .parts import RESUMING, needs_training
from .runs import EPOCHS, Runs, Shipped


@needs_training
class PipelineChecks:
    """Checks of whole trainings, by the command line and the pipeline."""

    @pytest.mark.slow
    def test_the_model_describes_itself(self, backend: Backend, shipped: Shipped) -> None:
        """B7, CHECKPOINT: the configuration comes back as it was set; versions, losses and the self-test are inside."""
        manifest = open_model(shipped.model).manifest
        assert manifest.backend == backend.name
        assert manifest.config == shipped.config
        assert backend.versions().items() <= manifest.versions.items()
        assert manifest.architecture.stride == backend.stride
        losses = [loss for _, loss in manifest.training.losses]
        assert len(losses) == manifest.training.epochs == EPOCHS
        assert losses[-1] < 0.6 * losses[0]
        report = verify_model(shipped.model, backend.name)
        assert report.difference <= report.tolerance <= 1e-5
        assert report.distance_to_fresh > 100 * report.tolerance

    @pytest.mark.slow
    def test_the_validation_scan_of_the_file_was_used(self, shipped: Shipped) -> None:
        """SETTINGS: with test_data_file every pattern of the scan is trained on."""
        training = open_model(shipped.model).manifest.training
        assert training.patterns_seen == EPOCHS * 144 and training.monitor == 'val_loss'

    @pytest.mark.slow
    def test_the_probe_is_masked_and_scaled(self, backend: Backend, tmp_path: Path) -> None:
        """S3, S4, MODES, COVERAGE, B23, SETTINGS: the model keeps the probe it was trained with, here of three modes.

        A stronger one makes the object weaker. In regions of four every pattern is used; a probe of another number of
        modes is used as it is, which a note says.
        """
        scan, amplitudes = jobs.make_scan(modes=3), []
        for scale in (0.8, 1.25):
            config = jobs.make_config(
                backend, training__nepochs=6, model__probe_scale=scale, model__probe_mask=True,
                model__gridsize=2, data__neighbor_count=3,
            )  # fmt: skip
            model = train([scan], config, tmp_path / str(scale)).model
            expected = prepare_scan(scan, probe_mask=True, probe_scale=scale).probe
            assert np.array_equal(open_model(model).probe, expected) and not expected[:, 0, 0].any()
            results = [reconstruct(one, model, config) for one in (scan, replace(scan, probe=None))]
            assert all(np.allclose(result.reconstruction.probe, expected, rtol=1e-5) for result in results)
            assert not any(notice.code == 'probe_shape' for result in results for notice in result.report.notices)
            assert results[0].report.run.patterns == len(scan)
            amplitudes.append(float(np.abs(results[0].reconstruction.object[20:-20, 20:-20]).mean()))
        assert amplitudes[0] > 1.1 * amplitudes[1]  # of 1.56, that it has begun to learn
        single = reconstruct(jobs.make_scan(), model, config)
        assert len(single.reconstruction.probe) == 1
        assert any(notice.code == 'probe_modes' for notice in single.report.notices)

    @pytest.mark.slow
    def test_positions_not_provided_have_no_influence_on_training(self, backend: Backend, tmp_path: Path) -> None:
        """S9, SETTINGS: stretched positions in the same order give the same weights, bit by bit."""
        scan = jobs.make_scan()
        stretched = replace(scan, positions=1.13 * scan.positions)
        settings: dict[str, Any] = {'data__validation_fraction': 0.0, 'training__nepochs': 1}
        config = jobs.make_config(backend, data__positions_provided=False, **settings)
        one, two = (
            train([each], config, tmp_path / str(number)).trained.weights
            for number, each in enumerate((scan, stretched))
        )
        assert jobs.largest_difference(one, two) == 0
        with pytest.raises(ConfigError, match='positions_provided = False has no effect'):
            jobs.make_config(backend, data__positions_provided=False, model__model_type='supervised')

    @pytest.mark.slow
    def test_photons_are_used_where_counts_are_unknown(
        self, backend: Backend, conformance_runs: Runs, tmp_path: Path
    ) -> None:
        """S8, SETTINGS: a normalized scan with its true nphotons gives the model of the counts."""
        counts, reference = jobs.make_scan(), conformance_runs.reference.trained.weights
        normalized = replace(counts, diffraction=(counts.diffraction / np.float32(3e4)).astype(np.float32))
        config = jobs.make_config(backend, data__nphotons=counts.mean_counts)
        model = train([normalized], config, tmp_path).model
        notices = reconstruct(normalized, model, config).report.notices
        assert any(notice.code == 'photons' for notice in notices)
        moved = jobs.largest_difference(reference, backend.draw_weights(config, 0))
        assert jobs.largest_difference(open_model(model).weights, reference) < 1e-2 * moved

    @pytest.mark.slow
    def test_another_pattern_size_is_refused(self, shipped: Shipped, tmp_path: Path) -> None:
        """N, SETTINGS: training with another N than the scan's."""
        with pytest.raises(ConfigError, match='N is 32 but the patterns are 48'):
            train([jobs.make_scan(n=48, positions=30)], shipped.config, tmp_path)
        assert not list(tmp_path.iterdir())

    @pytest.mark.slow
    def test_a_supervised_model_reconstructs(self, backend: Backend, tmp_path: Path) -> None:
        """SUPERVISED, B27: as any other; a scan without an object is refused before any work."""
        config = jobs.make_config(backend, model__model_type='supervised')
        bare = replace(jobs.make_scan(), object=None)
        with pytest.raises(ScanError, match='needs an object'):
            train([jobs.make_scan(), bare], config, tmp_path / 'bare')
        assert not (tmp_path / 'bare').exists()
        model = train([jobs.make_scan()], config, tmp_path / 'whole').model
        result = reconstruct(bare, model, config)
        assert result.report.run.model_type == 'supervised'
        assert np.isfinite(result.reconstruction.object).all()

    @pytest.mark.slow
    def test_training_further_from_a_model(self, backend: Backend, shipped: Shipped, tmp_path: Path) -> None:
        """B30: the first epoch is far better than a fresh network's; a model of another width is refused."""
        config = shipped.config.merged({'training': {'nepochs': 1, 'learning_rate': 1e-5}})
        further = train([shipped.scan], config, tmp_path / 'further', initial=shipped.model).trained
        losses = open_model(shipped.model).manifest.training.losses
        assert further.losses[0][1] < 0.8 * losses[0][1]
        narrow = config.merged({'model': {'n_filters_scale': 1}})
        with pytest.raises(ModelFileError, match='n_filters_scale'):
            train([shipped.scan], narrow, tmp_path / 'narrow', initial=shipped.model)

    @RESUMING
    @pytest.mark.slow
    def test_a_job_stopped_early_leaves_no_model(
        self, backend: Backend, conformance_runs: Runs, tmp_path: Path
    ) -> None:
        """B35, B38: stopped before the first epoch was complete; the pipeline resumes it as if it had not been."""
        config = jobs.make_config(backend)
        with pytest.raises(Interrupted):
            train([jobs.make_scan()], config, tmp_path, should_stop=jobs.StopAfter(1))
        assert not (tmp_path / 'model.safetensors').exists()
        resumed = train([jobs.make_scan()], config, tmp_path, resume=True).trained
        assert jobs.largest_difference(resumed.weights, conformance_runs.reference.trained.weights) == 0
