"""Results of a backend in the pipeline: reconstruction with a model that another process has trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ..backend import Backend, load_backend
from ..errors import ConfigError, Interrupted, ModelFileError, OutputError, ScanError
from ..io import ObjectFile, read_scan, write_npz
from ..model_file.opening import open_model
from ..model_file.trained import set_single_precision, verify_model
from ..physics.prepare import prepare_scan
from ..reconstruction import network_object
from ..reconstruction.evaluate import as_object_file, evaluate
from ..reconstruction.reconstruct import reconstruct, refine_scan
from . import jobs
from .runs import Shipped


class ResultChecks:
    """Checks of reconstructions, by the command line and the pipeline."""

    @pytest.mark.slow
    def test_trained_in_one_process_reconstructed_in_another(self, shipped: Shipped) -> None:
        """SINGLETON, B12, SETTINGS: the same object here, from the files that the settings name."""
        here = reconstruct(shipped.scan, shipped.model, shipped.config).reconstruction.object
        assert np.abs(shipped.object - here).max() < 1e-5 * np.abs(here).max()
        assert np.abs(np.angle(here)).std() > 0.05  # an empty object would agree with itself as well

    @pytest.mark.slow
    def test_the_result_says_which_backend_made_it(self, backend: Backend, shipped: Shipped) -> None:
        """BACKEND, SETTINGS: execution.backend chooses, and the report says so."""
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
    def test_the_scratch_folder_takes_what_memory_does_not_hold(
        self, shipped: Shipped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """SETTINGS: with patches in files the object is the same bit for bit; a folder that is none is refused."""
        monkeypatch.setattr(network_object, 'IN_MEMORY', 0)
        config = shipped.config.merged({'execution': {'scratch_dir': str(tmp_path)}})
        found = reconstruct(shipped.scan, shipped.model, config)
        assert np.array_equal(found.reconstruction.object, shipped.object) and not any(tmp_path.iterdir())
        config = shipped.config.merged({'execution': {'scratch_dir': str(tmp_path / 'absent')}})
        with pytest.raises(OutputError, match='absent'):
            reconstruct(shipped.scan, shipped.model, config)

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
        """RELIABILITY, SETTINGS: disagreement of the patches, after a pass error bars; with split_frc two halves."""
        split = shipped.config.merged({'inference': {'split_frc': True}, 'refinement': {'passes': 1}})
        plain, halved = (reconstruct(shipped.scan, shipped.model, c).report for c in (shipped.config, split))
        assert plain.reliability.split is None and halved.reliability.split is not None
        assert 0.3 < halved.reliability.split.area < 1 and 'refine_halves' in halved.stages
        assert (plain.reliability.source, halved.reliability.source) == ('patches', 'result')
        for report in (plain, halved):
            median = report.reliability.uncertain(50)
            assert median is not None and 0 < median < 0.5

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
    def test_a_learned_step_is_told_by_what_it_changed(self, shipped: Shipped) -> None:
        """SETTINGS: refinement.learned_step: on, the object differs by as much as is told; off, nothing is told."""
        off, on = (
            reconstruct(
                shipped.scan,
                shipped.model,
                shipped.config.merged({'refinement': {'passes': 3, 'learned_step': switch}}),
            )
            for switch in ('off', 'on')
        )
        assert off.report.run.learned_change is None and off.report.reliability.learned_change is None
        change = on.report.reliability.learned_change
        assert change is not None
        found = np.abs(on.reconstruction.object - off.reconstruction.object)
        np.testing.assert_allclose(found, change, atol=2e-4)

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
    def test_a_scan_of_another_pattern_size_is_refused(self, shipped: Shipped) -> None:
        """N, SETTINGS: the network is the model's."""
        with pytest.raises(ModelFileError, match='N = 32 pixels but the scan has 48'):
            reconstruct(jobs.make_scan(n=48, positions=30), shipped.model, shipped.config)

    @pytest.mark.slow
    def test_a_reconstruction_is_stopped(self, shipped: Shipped) -> None:
        """As soon as it is asked."""
        with pytest.raises(Interrupted):
            reconstruct(shipped.scan, shipped.model, shipped.config, should_stop=lambda: True)

    @pytest.mark.slow
    def test_other_backends_give_the_same_patches(self, backend: Backend, shipped: Shipped) -> None:
        """B17: the same model, replayed by this backend and every other that is installed."""
        from ..backend import find_entry_points, find_missing_modules

        others = [n for n in find_entry_points() if n != backend.name and not find_missing_modules(n)]
        for name in (backend.name, *others):
            report = verify_model(shipped.model, load_backend(name).name)
            assert report.difference <= 1e-5
        if not others:
            pytest.skip('no other backend is installed here')
