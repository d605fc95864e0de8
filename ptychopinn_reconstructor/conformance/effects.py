"""Every setting has the effect that is documented: clause B29, SETTINGS. A field without an entry fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ..backend import Backend, describe_backends
from ..backend.precision import computes_bfloat16
from ..config import Config, field_table
from ..errors import ConfigError
from ..training.setup import split_scan
from ..training.train import train
from . import jobs
from .parts import needs_training
from .runs import Runs

LARGER = 'test_larger_patches_equal_those_of_the_reference'
LOSS = 'test_the_loss_is_that_of_the_reference'
EXECUTION = 'test_equal_jobs_give_equal_weights'
ALONE = 'test_a_process_of_several_that_was_started_alone_is_refused'
PROCESSES = 'test_trained_in_one_process_reconstructed_in_another'

EFFECTS: dict[str, tuple[str, ...]] = {  # the checks that assert the effect of a setting, and its direction
    'model.N': ('test_another_pattern_size_is_refused', 'test_a_scan_of_another_pattern_size_is_refused'),
    'model.gridsize': (LOSS,),
    'model.n_filters_scale': ('test_weights_have_the_neutral_layout',),
    'model.model_type': (LOSS, 'test_supervised_learns_from_the_object'),
    'model.architecture': ('test_an_unknown_architecture_is_refused',),
    'model.amp_activation': (LOSS, 'test_patches_equal_those_of_the_reference'),
    'model.amplitude_max': ('test_patches_equal_those_of_the_reference',),
    'model.object_big': (LOSS,),
    'model.probe_big': (LOSS, LARGER),
    'model.probe_mask': ('test_the_probe_is_masked_and_scaled',),
    'model.pad_object': (LOSS, LARGER),
    'model.probe_scale': ('test_the_probe_is_masked_and_scaled',),
    'model.gaussian_smoothing_sigma': (LOSS, 'test_smoothing_flattens_patches'),
    'data.train_data_file': (PROCESSES,),
    'data.test_data_file': ('test_the_validation_scan_of_the_file_was_used',),
    'data.source': ('test_procedural_patterns_are_learnt_from',),
    'data.measurement_domain': ('test_the_measurement_domain_is_the_unit_of_a_file',),
    'data.as_is': ('test_a_scan_is_mended_unless_it_is_taken_as_it_is',),
    'data.probe_power': ('test_supervised_learns_from_the_object',),
    'data.nphotons': ('test_photons_are_used_where_counts_are_unknown',),
    'data.n_groups': (LOSS,),
    'data.n_subsample': ('test_subsampling_chooses_what_is_trained_on',),
    'data.neighbor_count': (LOSS,),
    'data.positions_provided': (LOSS, 'test_positions_not_provided_have_no_influence_on_training'),
    'data.validation_fraction': ('test_nothing_held_out_is_no_obstacle',),
    'training.batch_size': ('test_accumulated_gradients_equal_the_large_batch',),
    'training.nepochs': ('test_more_epochs_can_be_added',),
    'training.max_cpu_seconds': ('test_the_cpu_budget_ends_the_training_with_its_schedule_run_out',),
    'training.nll_weight': (LOSS,),
    'training.mae_weight': (LOSS,),
    'training.realspace_mae_weight': (LOSS,),
    'training.realspace_weight': (LOSS, 'test_a_trained_probe_keeps_its_power'),
    'training.far_field_weight': (LOSS,),
    'training.dose_range': ('test_procedural_patterns_are_learnt_from',),
    'training.probe_trainable': ('test_a_trained_probe_keeps_its_power',),
    'training.intensity_scale_trainable': ('test_a_trained_scale_stays_within_its_bound',),
    'training.refine_probe_first': ('test_a_probe_refined_first_is_nearer_to_the_true_one',),
    'training.refine_positions_first': ('test_positions_refined_first_are_nearer_to_the_true_ones',),
    'training.learning_rate': ('test_the_learning_rate_follows_its_schedule', 'test_a_step_is_one_of_adamw'),
    'training.scheduler': ('test_the_learning_rate_follows_its_schedule',),
    'training.accum_steps': ('test_accumulated_gradients_equal_the_large_batch',),
    'training.gradient_clip_val': ('test_gradients_are_clipped_by_norm',),
    'training.seed': (LOSS,),
    'training.checkpoint_monitor_metric': ('test_the_best_epoch_is_returned_not_the_last',),
    'training.early_stop_patience': ('test_the_best_epoch_is_returned_not_the_last',),
    'training.output_dir': (PROCESSES,),
    'inference.model_path': (PROCESSES,),
    'inference.inference_batch_size': ('test_the_batch_size_of_inference_changes_nothing',),
    'inference.sync_neighbors': ('test_synchronization_and_refinement_improve_the_fit',),
    'refinement.wavefront': ('test_the_wavefront_brings_the_phase_nearer_to_the_truth',),
    'refinement.passes': ('test_synchronization_and_refinement_improve_the_fit',),
    'refinement.prior': ('test_the_prior_smooths_what_the_passes_find',),
    'refinement.learned_step': ('test_a_learned_step_is_told_by_what_it_changed',),
    'refinement.probe': ('test_probe_and_positions_move_only_when_asked',),
    'refinement.modes': ('test_the_probe_has_as_many_modes_as_asked_for',),
    'refinement.auto': ('test_a_diagnosis_is_followed_when_asked',),
    'refinement.positions': ('test_probe_and_positions_move_only_when_asked',),
    'refinement.background': ('test_background_and_intensity_are_found_when_asked',),
    'refinement.intensity': ('test_background_and_intensity_are_found_when_asked',),
    'refinement.fresnel_number': ('test_a_network_refuses_the_near_field',),
    'inference.split_frc': ('test_a_result_says_how_far_to_trust_it',),
    'inference.middle_trim': ('test_the_middle_of_each_patch_is_stitched',),
    'inference.debug': ('test_patches_are_kept_for_debugging',),
    'execution.backend': ('test_the_result_says_which_backend_made_it',),
    'execution.device': (
        'test_a_device_that_is_not_there_is_refused',
        'test_every_device_computes_the_same',
        'test_every_device_trains_the_same',
    ),
    'execution.num_workers': (EXECUTION,),
    'execution.pin_memory': (EXECUTION,),
    'execution.precision': ('test_half_precision_changes_rounding_only', 'test_half_precision_that_is_slow_is_refused'),
    'execution.threads': ('test_threads_change_rounding_only',),
    'execution.strategy': (ALONE,),
    'execution.devices': (ALONE,),
    'execution.num_nodes': (ALONE,),
    'execution.logger_backend': (EXECUTION,),
    'execution.scratch_dir': ('test_the_scratch_folder_takes_what_memory_does_not_hold',),
    'execution.progress': (EXECUTION,),
}


@needs_training
class SettingsChecks:
    """Every setting of config.field_table()."""

    def test_every_setting_is_in_the_table(self) -> None:
        """B29, SETTINGS: a new field needs an entry, and a check that is named must be there."""
        rows = {f'{row.section}.{row.name}': row for row in field_table()}
        assert rows.keys() == EFFECTS.keys()
        assert all(callable(getattr(type(self), check)) for checks in EFFECTS.values() for check in checks)
        for key, value in jobs.ELSEWHERE.items():
            section, name = key.split('__')
            assert value != getattr(getattr(Config(), section), name)

    @pytest.mark.slow
    def test_half_precision_changes_rounding_only(
        self, backend: Backend, conformance_runs: Runs, tmp_path: Path
    ) -> None:
        """B29, SETTINGS: the losses stay as they are, to what precision costs, and the weights in single precision.

        On a CPU that has no instructions for it the pipeline refuses it.
        """
        config = jobs.make_config(backend, execution__precision='bf16-mixed')
        if not computes_bfloat16():
            with pytest.raises(ConfigError, match='precision is bf16-mixed, but this CPU'):
                train([jobs.make_scan()], config, tmp_path)
            return
        half, plain = conformance_runs.of(execution__precision='bf16-mixed').trained, conformance_runs.reference.trained
        losses = [[loss for _, loss in one.losses] for one in (half, plain)]
        assert losses[0] == pytest.approx(losses[1], rel=0.05, abs=0)
        assert jobs.largest_difference(half.weights, plain.weights) > 0
        assert {values.dtype for values in half.weights.values()} == {np.dtype(np.float32)}

    def test_half_precision_that_is_slow_is_refused(self, backend: Backend, tmp_path: Path) -> None:
        """SETTINGS: float16 on a CPU, which has no use for it; nothing is written."""
        config = jobs.make_config(backend, execution__precision='16-mixed')
        with pytest.raises(ConfigError, match=r'precision is 16-mixed, but a CPU .*; set it to 32, or choose a GPU'):
            train([jobs.make_scan()], config, tmp_path)
        assert not list(tmp_path.iterdir())

    @pytest.mark.slow
    def test_threads_change_rounding_only(self, conformance_runs: Runs) -> None:
        """B29, SETTINGS: another order of sums."""
        two, one = conformance_runs.of(execution__threads=2).trained, conformance_runs.reference.trained
        losses = [[loss for _, loss in each.losses] for each in (two, one)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3, abs=0)

    def test_a_process_of_several_that_was_started_alone_is_refused(self, backend: Backend, tmp_path: Path) -> None:
        """SETTINGS: strategy, devices and num_nodes are for processes that were started together; nothing is written.

        What they then compute is asserted by tests/backends/test_several_processes.py.
        """
        config = jobs.make_config(backend, execution__strategy='ddp', execution__devices=2, execution__num_nodes=3)
        with pytest.raises(ConfigError, match='torchrun --nnodes 3 --nproc-per-node 2'):
            train([jobs.make_scan()], config, tmp_path)
        assert not list(tmp_path.iterdir())

    def test_subsampling_chooses_what_is_trained_on(self, backend: Backend) -> None:
        """SETTINGS: n_subsample patterns at most, drawn by the seed of the training; more than there are is refused."""
        scan = jobs.make_prepared_scan(backend)

        def drawn(number: int, seed: int) -> list[Any]:
            config = jobs.make_config(backend, data__n_subsample=number, training__seed=seed)
            return list(split_scan(scan, config).training)

        assert 20 < len(drawn(40, 0)) <= 40
        assert drawn(40, 0) == drawn(40, 0) != drawn(40, 1)
        with pytest.raises(ConfigError, match='n_subsample is 1000'):
            drawn(1000, 0)

    def test_an_unknown_architecture_is_refused(self, backend: Backend, tmp_path: Path) -> None:
        """B13, SETTINGS: the error names those that the backend offers, whoever asks; nothing is written."""
        config = jobs.make_config(backend, model__architecture='unheard of')
        weights = backend.draw_weights(jobs.make_config(backend), 0)
        calls = (
            lambda: backend.check(config),
            lambda: backend.draw_weights(config, 0),
            lambda: backend.network(config, weights, 'cpu'),
            lambda: jobs.train(backend, tmp_path, model__architecture='unheard of'),
        )
        for call in calls:
            with pytest.raises(ConfigError, match=', '.join(describe_backends()[backend.name].architectures)):
                call()
        assert not list(tmp_path.iterdir())

    @pytest.mark.slow
    def test_every_device_trains_the_same(self, backend: Backend, tmp_path: Path) -> None:
        """B11, B12: losses are those of the CPU, and what another device trained predicts there."""
        others, config = backend.devices()[1:], jobs.make_config(backend)
        if not others:
            pytest.skip('there is no other device than the CPU here')
        data = jobs.make_prepared_scan(backend).patterns(np.arange(8))
        at_home = jobs.train(backend, tmp_path / 'cpu', training__nepochs=1)
        for number, device in enumerate(others):
            trained = jobs.train(backend, tmp_path / str(number), training__nepochs=1, execution__device=device)
            assert trained.summary['device'] == backend.resolve_device(device)
            patches = backend.network(config, trained.weights, 'cpu').predict(data.root4, data.backprojection)
            assert np.isfinite(patches).all()
            assert trained.losses[0][1] == pytest.approx(at_home.losses[0][1], rel=0.02)

    @pytest.mark.slow
    def test_the_cpu_budget_ends_the_training_with_its_schedule_run_out(self, backend: Backend, tmp_path: Path) -> None:
        """B28, B35, SETTINGS: max_cpu_seconds ends it well before nepochs, cleanly, at the lowest learning rate."""
        heard = jobs.Listener()
        trained = jobs.train(backend, tmp_path, training__nepochs=100_000, training__max_cpu_seconds=8.0, emit=heard)
        assert not trained.interrupted and len(trained.losses) < 100_000
        assert 8.0 <= trained.summary['cpu_seconds'] < 60
        rates = [row['learning_rate'] for row in heard.epochs]
        assert rates[-1] <= 0.05 * 2e-3
        assert max(rates) > 3 * rates[-1]  # compiling may have taken most of the budget, but not all of it

    @pytest.mark.slow
    def test_a_probe_refined_first_is_nearer_to_the_true_one(self, backend: Backend, tmp_path: Path) -> None:
        """SETTINGS: refine_probe_first improves a wrong guess, and the model keeps the better probe."""
        from ..model_file.opening import open_model
        from ..model_file.probes import correlate_probes

        scan = jobs.make_scan()
        assert scan.probe is not None
        y, x = np.mgrid[:32, :32] - 15.5
        guess = scan.with_probe(scan.probe * np.exp(0.02j * (x**2 + 0.5 * y**2)))
        config = jobs.make_config(backend, training__refine_probe_first=10)
        model = train([guess], config, tmp_path).model
        assert guess.probe is not None
        before, after = (correlate_probes(probe, scan.probe) for probe in (guess.probe, open_model(model).probe))
        assert before < 0.95 and after > before + 0.02

    @pytest.mark.slow
    def test_positions_refined_first_are_nearer_to_the_true_ones(self, backend: Backend, tmp_path: Path) -> None:
        """SETTINGS: refine_positions_first takes back most of each displacement, and what it finds is trained on."""
        scan = jobs.make_scan(photons=1e6)
        off = np.random.default_rng(0).normal(size=scan.positions.shape)
        wrong = replace(scan, positions=scan.positions + off)
        config = jobs.make_config(backend, training__refine_positions_first=20)
        first = train([wrong], config, tmp_path / 'first').trained.weights
        with np.load(tmp_path / 'first' / 'probe.npz') as found:
            better = replace(wrong, positions=found['positions'])
        left = better.positions - scan.positions
        assert np.sqrt((left**2).mean()) < 0.5 * np.sqrt((off**2).mean())
        again = train([better], jobs.make_config(backend), tmp_path / 'better').trained.weights
        assert jobs.largest_difference(first, again) == 0
