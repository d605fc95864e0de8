"""Backend in the pipeline: training in one process, reconstruction in another, and the model file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ..backend import Backend, load_backend
from ..errors import ConfigError, Interrupted, ModelFileError, ScanError
from ..io import ObjectFile, read_scan, write_npz
from ..model_file.opening import open_model
from ..model_file.trained import set_single_precision, verify_model
from ..physics.prepare import prepare_scan
from ..reconstruction.evaluate import as_object_file, evaluate
from ..reconstruction.reconstruct import reconstruct, refine_scan
from ..training.train import train
from . import jobs
from .runs import EPOCHS, Runs, Shipped


class PipelineChecks:
    """Checks of whole jobs, by the command line and the pipeline."""

    @pytest.fixture
    def shipped(self, conformance_runs: Runs) -> Shipped:
        """A model that a process of its own has trained, and the object that another made of it."""
        return conformance_runs.shipped

    @pytest.mark.slow
    def test_trained_in_one_process_reconstructed_in_another(self, shipped: Shipped) -> None:
        """SINGLETON, B12, SETTINGS: the same object here, from the files that the settings name."""
        here = reconstruct(shipped.scan, shipped.model, shipped.config).reconstruction.object
        assert np.abs(shipped.object - here).max() < 1e-5 * np.abs(here).max()
        assert np.abs(np.angle(here)).std() > 0.05  # an empty object would agree with itself as well

    @pytest.mark.slow
    def test_the_model_describes_itself(self, backend: Backend, shipped: Shipped) -> None:
        """B7, CHECKPOINT: the configuration comes back as it was set; versions, losses and the self-test are inside."""
        manifest = open_model(shipped.model).manifest
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
    def test_the_result_says_which_backend_made_it(self, backend: Backend, shipped: Shipped) -> None:
        """BACKEND, SETTINGS: execution.backend chooses, the model and the report say so."""
        assert open_model(shipped.model).manifest.backend == backend.name
        run = reconstruct(shipped.scan, shipped.model, shipped.config).report.run
        assert run.backend == backend.name and run.device == backend.resolve_device('cpu')

    @pytest.mark.slow
    def test_the_amplitude_is_absolute(self, shipped: Shipped) -> None:
        """AMPLITUDE: the network's own object has 1.00 +- 0.02 times the true amplitude, the gauge included."""
        assert shipped.scan.object is not None
        truth = ObjectFile(shipped.scan.object, shipped.scan.object_origin, shipped.scan.positions)
        result = reconstruct(shipped.scan, shipped.model, shipped.config)
        assert abs((result.report.run.count_gauge or 0) - 1) < 0.1
        score = evaluate(as_object_file(result.reconstruction), truth, margin=2)
        assert score.amplitude_ratio == pytest.approx(1.0, abs=0.02)
        empty = evaluate(replace(truth, object=np.ones_like(truth.object)), truth, margin=2)
        # After so few epochs the phase is far better than an empty object's; the amplitude differs by 2 dB among seeds.
        assert score.phase_psnr > empty.phase_psnr + 6 and score.amplitude_psnr > empty.amplitude_psnr

    @pytest.mark.slow
    @pytest.mark.parametrize('size', [1, 7])
    def test_the_batch_size_of_inference_changes_nothing(self, shipped: Shipped, size: int) -> None:
        """DENSE, COVERAGE, SETTINGS: the same object to 1e-5 whatever inference_batch_size."""
        config = shipped.config.merged({'inference': {'inference_batch_size': size}})
        found = reconstruct(shipped.scan, shipped.model, config)
        assert found.report.run.patterns == 144
        assert np.abs(found.reconstruction.object - shipped.object).max() < 1e-5 * np.abs(shipped.object).max()

    @pytest.mark.slow
    def test_synchronization_and_refinement_improve_the_fit(self, shipped: Shipped) -> None:
        """SETTINGS: sync_neighbors and passes lower the residual, each on its own."""

        def residual(section: str = 'inference', **changes: int) -> float:
            config = shipped.config.merged({section: changes})
            return reconstruct(shipped.scan, shipped.model, config).report.residual

        plain = residual()
        assert plain < residual(sync_neighbors=0)
        assert residual('refinement', passes=2) < 0.8 * plain

    @pytest.mark.slow
    def test_the_wavefront_brings_the_phase_nearer_to_the_truth(self, shipped: Shipped) -> None:
        """SETTINGS: wavefront: the slopes of all patterns mend the long-range phase, before and after the passes."""
        assert shipped.scan.object is not None
        truth = ObjectFile(shipped.scan.object, shipped.scan.object_origin, shipped.scan.positions)

        def phase(**section: Any) -> float:
            config = shipped.config.merged({'refinement': section})
            result = reconstruct(shipped.scan, shipped.model, config)
            assert ('wavefront' in result.report.stages) is section['wavefront']
            return evaluate(as_object_file(result.reconstruction), truth, margin=2).phase_psnr

        for passes in (0, 2):
            plain, corrected = (phase(passes=passes, wavefront=asked) for asked in (False, True))
            assert corrected > plain

    @pytest.mark.slow
    def test_a_result_says_how_far_to_trust_it(self, shipped: Shipped) -> None:
        """RELIABILITY, SETTINGS: disagreement of the patches always; with split_frc the agreement of two halves."""
        split = shipped.config.merged({'inference': {'split_frc': True}, 'refinement': {'passes': 1}})
        plain, halved = (reconstruct(shipped.scan, shipped.model, c).report for c in (shipped.config, split))
        assert plain.reliability.split is None and halved.reliability.split is not None
        assert 0.3 < halved.reliability.split.area < 1 and 'refine_halves' in halved.stages
        median = plain.reliability.uncertain(50)
        assert (
            median is not None
            and 0 < median < 0.5
            and halved.reliability.uncertain(50) == pytest.approx(median, rel=1e-5)
        )

    @pytest.mark.slow
    def test_probe_and_positions_move_only_when_asked(self, shipped: Shipped) -> None:
        """SETTINGS: refinement.probe and refinement.positions, each on its own."""

        def moved(**section: bool) -> tuple[bool, bool]:
            config = shipped.config.merged({'refinement': {'passes': 4, **section}})
            result = reconstruct(shipped.scan, shipped.model, config).reconstruction
            still = reconstruct(shipped.scan, shipped.model, shipped.config).reconstruction
            return not np.array_equal(result.probe, still.probe), not np.array_equal(result.positions, still.positions)

        assert moved() == (False, False)
        assert moved(probe=True) == (True, False) and moved(positions=True) == (False, True)

    @pytest.mark.slow
    def test_background_and_intensity_are_found_when_asked(self, shipped: Shipped) -> None:
        """SETTINGS: refinement.background and refinement.intensity, each on its own; the patterns stay as they are."""

        def found(**section: str) -> tuple[bool, bool]:
            config = shipped.config.merged(
                {'refinement': {'passes': 4, 'background': 'off', 'intensity': 'off', **section}}
            )
            result = reconstruct(shipped.scan, shipped.model, config)
            kept, run = result.reconstruction.metadata, result.report.run
            assert ('background' in kept) is (run.background is not None)
            assert ('intensity' in kept) is (run.intensity_deviation is not None)
            return 'background' in kept, 'intensity' in kept

        assert found() == (False, False)
        assert found(background='on') == (True, False) and found(intensity='on') == (False, True)

    @pytest.mark.slow
    def test_a_diagnosis_is_followed_when_asked(self, shipped: Shipped) -> None:
        """SETTINGS: refinement.auto; patterns that are transposed are turned back, and a note says so."""
        turned = replace(shipped.scan, diffraction=np.swapaxes(np.asarray(shipped.scan.diffraction), 1, 2).copy())
        residuals, told = [], []
        for auto in (False, True):
            config = shipped.config.merged({'refinement': {'passes': 4, 'auto': auto}})
            report = reconstruct(turned, shipped.model, config).report
            residuals.append(report.residual)
            told.append([notice.text for notice in report.notices if notice.code == 'diagnosed'])
        assert residuals[1] < 0.7 * residuals[0] and told[0] == []
        assert 'The patterns are transposed' in told[1][0]

    @pytest.mark.slow
    def test_the_probe_has_as_many_modes_as_asked_for(self, shipped: Shipped) -> None:
        """SETTINGS: refinement.modes; the power stays, and clean patterns ask for none by themselves."""

        def modes(number: int | None) -> NDArray[Any]:
            config = shipped.config.merged({'refinement': {'passes': 4, 'modes': number}})
            return reconstruct(shipped.scan, shipped.model, config).reconstruction.probe

        given = modes(0)
        np.testing.assert_array_equal(modes(None), given)
        assert len(modes(3)) == 3
        np.testing.assert_allclose((np.abs(modes(3)) ** 2).sum(), (np.abs(given) ** 2).sum(), rtol=1e-4)

    @pytest.mark.slow
    def test_a_network_refuses_the_near_field(self, shipped: Shipped) -> None:
        """SETTINGS: refinement.fresnel_number, which the engine alone takes."""
        config = shipped.config.merged({'refinement': {'passes': 2, 'fresnel_number': 0.05}})
        with pytest.raises(ScanError, match='near field'):
            reconstruct(shipped.scan, shipped.model, config)
        assert refine_scan(shipped.scan, config).reconstruction.metadata['fresnel_number'] == (0.05, 0.05)

    @pytest.mark.slow
    def test_the_prior_smooths_what_the_passes_find(self, shipped: Shipped) -> None:
        """SETTINGS: refinement.prior, the stronger the less the refined object varies from pixel to pixel."""

        def variation(strength: float) -> float:
            config = shipped.config.merged({'refinement': {'passes': 3, 'prior': strength}})
            found = reconstruct(shipped.scan, shipped.model, config).reconstruction.object
            return float(np.abs(np.diff(found)).mean())

        assert variation(10) < variation(1) < variation(0)

    @pytest.mark.slow
    def test_the_middle_of_each_patch_is_stitched(self, shipped: Shipped) -> None:
        """SETTINGS: middle_trim: less of the canvas is covered, what is covered shows the same object."""
        assert shipped.scan.object is not None
        whole, trimmed = (
            reconstruct(
                shipped.scan, shipped.model, shipped.config.merged({'inference': {'middle_trim': size}})
            ).reconstruction.object
            for size in (None, 12)
        )
        changed = [int((np.abs(canvas - 1) > 1e-6).sum()) for canvas in (whole, trimmed)]
        assert changed[1] < 0.9 * changed[0]
        middle = (slice(20, -20),) * 2
        turned = np.vdot(trimmed[middle], whole[middle])
        assert abs(turned) > 0.98 * np.linalg.norm(trimmed[middle]) * np.linalg.norm(whole[middle])
        with pytest.raises(ConfigError, match='middle_trim is 18 but the patches of this model are 16'):
            reconstruct(shipped.scan, shipped.model, shipped.config.merged({'inference': {'middle_trim': 18}}))

    @pytest.mark.slow
    def test_patches_are_kept_for_debugging(self, backend: Backend, shipped: Shipped, tmp_path: Path) -> None:
        """SETTINGS: debug: patches.h5 holds what the network predicts, in canonical order; without it there is none."""
        import h5py

        for debug in (False, True):
            config = shipped.config.merged({'inference': {'debug': debug}})
            reconstruct(shipped.scan, shipped.model, config, patches_file=tmp_path / 'patches.h5')
            assert (tmp_path / 'patches.h5').exists() is debug
        model = open_model(shipped.model)
        network = backend.network(set_single_precision(model.config), model.weights, 'cpu')
        prepared = prepare_scan(shipped.scan)
        with h5py.File(tmp_path / 'patches.h5') as file:
            assert np.array_equal(shipped.scan.positions[file['pattern'][:]], file['positions'][:])
            index = np.array([3, 77, 143])
            assert np.array_equal(file['pattern'][:][index], prepared.order[index])
            data = prepared.patterns(index)
            expected = network.predict(data.root4, data.backprojection)
            assert np.abs(file['patches'][:][index] - expected).max() < 1e-5 * np.abs(expected).max()

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

    def test_the_measurement_domain_is_the_unit_of_a_file(self, backend: Backend, tmp_path: Path) -> None:
        """SETTINGS: measurement_domain amplitude squares what the file holds."""
        write_npz(tmp_path / 'scan.npz', jobs.make_scan())
        index = np.arange(3)
        counts, amplitude = (
            read_scan(tmp_path / 'scan.npz', domain=domain).scan.counts(index) for domain in ('counts', 'amplitude')
        )
        assert np.array_equal(amplitude, counts**2) and np.array_equal(counts, jobs.make_scan().counts(index))

    def test_a_scan_is_mended_unless_it_is_taken_as_it_is(self, backend: Backend, tmp_path: Path) -> None:
        """SETTINGS: as_is keeps a hot pixel that is masked otherwise."""
        patterns = np.asarray(jobs.make_scan().diffraction).copy()
        patterns[:, 1, 2] = 30000
        write_npz(tmp_path / 'scan.npz', replace(jobs.make_scan(), diffraction=patterns))
        mended, kept = (read_scan(tmp_path / 'scan.npz', as_is=as_is).scan for as_is in (False, True))
        assert kept.bad_pixels is None and mended.bad_pixels is not None
        assert np.argwhere(mended.bad_pixels).tolist() == [[1, 2]]

    @pytest.mark.slow
    def test_another_pattern_size_is_refused(self, backend: Backend, shipped: Shipped, tmp_path: Path) -> None:
        """N, SETTINGS: training with another N than the scan's, reconstructing a scan of another than the model's."""
        other = jobs.make_scan(n=48, positions=30)
        with pytest.raises(ConfigError, match='N is 32 but the patterns are 48'):
            train([other], shipped.config, tmp_path)
        with pytest.raises(ModelFileError, match='N = 32 pixels but the scan has 48'):
            reconstruct(other, shipped.model, shipped.config)
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

    @pytest.mark.slow
    def test_a_job_stopped_early_leaves_no_model(
        self, backend: Backend, conformance_runs: Runs, tmp_path: Path
    ) -> None:
        """B35, B38: stopped before the first epoch was complete; the pipeline resumes it as if it had not been."""
        config, shipped = jobs.make_config(backend), conformance_runs.shipped
        with pytest.raises(Interrupted):
            train([jobs.make_scan()], config, tmp_path, should_stop=jobs.StopAfter(1))
        assert not (tmp_path / 'model.safetensors').exists()
        resumed = train([jobs.make_scan()], config, tmp_path, resume=True).trained
        assert jobs.largest_difference(resumed.weights, conformance_runs.reference.trained.weights) == 0
        with pytest.raises(Interrupted):
            reconstruct(shipped.scan, shipped.model, shipped.config, should_stop=lambda: True)

    @pytest.mark.slow
    def test_other_backends_give_the_same_patches(self, backend: Backend, shipped: Shipped) -> None:
        """B17: the same model, replayed by every other backend that is installed."""
        from ..backend import find_entry_points, find_missing_modules

        others = [n for n in find_entry_points() if n != backend.name and not find_missing_modules(n)]
        if not others:
            pytest.skip('no other backend is installed here')
        for name in others:
            report = verify_model(shipped.model, load_backend(name).name)
            assert report.difference <= 1e-5
