"""Fields of the panel: groups of settings with their labels, units and words."""

from __future__ import annotations

import os
from dataclasses import dataclass

from .model_file import MODEL_FILTER

ADVANCED = 'Advanced'
SOURCES = (('scans', 'Scans'), ('procedural', 'Pretrain for this probe'), ('mixed', 'Both in turns'))


@dataclass(frozen=True)
class Field:
    """Setting in the panel: name in `config`, label, unit, and the meaning of 0 (numbers) or an empty path."""

    name: str
    label: str
    unit: str = ''
    empty: str = ''
    text: str = ''  # instead of the description in `config`
    caption: str = ''  # of the dialog for a path; others have none
    file_filter: str = ''  # of a file; a folder has none
    titles: tuple[tuple[str, str], ...] = ()  # of choices that are shown in other words
    many: bool = False  # several files


# In the order of the panel; the last group is closed at first.
GROUPS: dict[str, tuple[Field, ...]] = {
    'Run': (
        Field('backend', 'Backend', text='The framework that trains the network and infers with it.'),
        Field('device', 'Device', text='Where the network and the refinement run. auto: the best device that is there. '
              'Others can be typed: cuda:1, mps, gpu:0 ...; one that is not there is an error.'),
        Field('threads', 'CPU threads', 'threads'),
        Field('precision', 'Precision', 'bits'),
    ),
    'Training': (
        Field('source', 'Training source', titles=SOURCES, text='Scans: Train learns from the scan that is selected, '
              'or from the files in the training folder. Pretrain for this probe: it learns from simulated objects '
              'under the probe of the selected product, with its counts and bad pixels; no scan is learned from, and '
              'the model then serves every sample of this instrument. Both in turns: a step on the scan, a step on '
              'simulated objects.'),
        Field('start_from_model', 'Start from model', text='Checked: Train goes on from the model that Infer uses, '
              'whose network it takes over: fine-tuning, quicker than a training from nothing. Unchecked: it starts '
              'with random weights. With a learning rate left at its default, such a training has a quarter of it.'),
        Field('nepochs', 'Epochs', 'epochs'),
        Field('batch_size', 'Batch size', 'patterns', 'automatic'),
        Field('learning_rate', 'Learning rate'),
        Field('nll_weight', 'Likelihood weight'),
        Field('mae_weight', 'Amplitude weight'),
        Field('far_field_weight', 'Far-field weight'),
        Field('realspace_mae_weight', 'Object weight'),
        Field('realspace_weight', 'Flatness weight'),
        Field('dose_range', 'Range of doses', 'times more and less', text='Simulated objects only: the photons per '
              'pattern are drawn from those of the loaded patterns divided by this to those times this.'),
        Field('validation_fraction', 'Held-out part', 'fraction of the patterns'),
        Field('early_stop_patience', 'Early stop after', 'epochs', 'never'),
        Field('probe_trainable', 'Train the probe'),
        Field('intensity_scale_trainable', 'Train the scale'),
        Field('resume', 'Resume', text='Checked: Train goes on with the training in its folder, if there is one that '
              'was stopped or is to have more epochs. Unchecked: Train starts anew, what is there is kept beside it.'),
    ),
    'Network': (
        Field('gridsize', 'Grid size'),
        Field('neighbor_count', 'Neighbors', 'patterns'),
        Field('object_big', 'Shared canvas'),
        Field('n_filters_scale', 'Width'),
        Field('probe_big', 'Large patches'),
        Field('pad_object', 'Padded patches'),
        Field('amp_activation', 'Amplitude function'),
        Field('amplitude_max', 'Largest amplitude', 'transmission'),
        Field('gaussian_smoothing_sigma', 'Smoothing (pixels)', 'pixels'),
    ),
    'Data': (
        Field('probe_power', 'Probe power'),
        Field('measurement_domain', 'Patterns in files'),
        Field('as_is', 'Scans as they are'),
        Field('positions_provided', 'Use the positions'),
        Field('n_subsample', 'Train on', 'patterns', 'all patterns'),
    ),
    'Inference': (
        Field('start_from_object', 'Start from the object', text='Checked: Infer refines the object of the selected '
              'product with the iterative engine, whoever made it: to polish a result, or to go on with a stopped one. '
              'No model is used. Unchecked: the object of the network is refined.'),
        Field('passes', 'Refinement', 'passes', 'automatic'),
        Field('prior', 'Prior', empty='automatic'),
        Field('probe', 'Refine the probe'),
        Field('positions', 'Refine the positions'),
        Field('sync_neighbors', 'Synchronization', 'neighbors', 'none'),
        Field('wavefront', 'Wavefront from slopes'),
        Field('auto', 'Diagnose the scan first'),
        Field('modes', 'Modes of the probe', empty='automatic'),
        Field('background', 'Background'),
        Field('intensity', 'Power of the beam'),
        Field('inference_batch_size', 'Batch size', 'patterns', 'automatic'),
        Field('split_frc', 'Resolution from halves'),
    ),
    'Files': (
        Field('model_path', 'Model', empty='none', text='The model (model.safetensors) that Infer uses. Train and '
              'Load Model set it.', caption='Choose Model', file_filter=MODEL_FILTER),
        Field('further_models', 'Further models', empty='none', text='Models that infer beside that one: the result '
              'begins with the mean of all, and what they differ is its uncertainty. Several are separated by '
              f'{os.pathsep}', caption='Choose a Further Model', file_filter=MODEL_FILTER, many=True),
        Field('output_dir', 'Training folder', empty='chosen on Train',
              text='Folder for checkpoints, metrics and the model of a training. Empty: the folder chosen on Train.',
              caption='Choose Training Output Folder'),
        Field('scratch_dir', 'Scratch folder', empty='automatic',
              text='Folder with room for a copy of the patterns while a job runs. '
              'Empty: that for temporary files, or another with enough space.',
              caption='Choose Scratch Folder'),
    ),
    ADVANCED: (
        Field('seed', 'Seed'),
        Field('scheduler', 'Rate schedule'),
        Field('accum_steps', 'Batches a step', 'batches'),
        Field('gradient_clip_val', 'Gradient limit'),
        Field('max_cpu_seconds', 'CPU time limit (s)', 's', 'no limit'),
        Field('n_groups', 'Regions an epoch', 'regions', 'automatic'),
        Field('refine_probe_first', 'Probe refinement', 'passes', 'none'),
        Field('refine_positions_first', 'Position refinement', 'passes', 'none'),
        Field('checkpoint_monitor_metric', 'Best epoch by'),
        Field('probe_mask', 'Mask the probe'),
        Field('probe_scale', 'Probe scale', text='Factor on the amplitude of the probe beyond Probe power; the '
              'amplitude of the object is divided by it. 4, which Ptychodus sets by itself, means 1.'),
        Field('nphotons', 'Photons', 'photons a pattern', text='Mean photons per pattern, where the patterns hold no '
              'counts but normalized values; counts are never touched. 1000000, which Ptychodus sets by itself, means '
              'that they are taken as they are.'),
        Field('middle_trim', 'Stitched middle', 'pixels', 'whole patch'),
        Field('debug', 'Keep the patches', text='Checked: the patches before stitching are kept beside the model, in '
              'patches.h5.'),
        Field('num_workers', 'Loader processes', 'processes', 'none'),
        Field('pin_memory', 'Pinned memory'),
        Field('logger_backend', 'Metrics logger'),
    ),
}  # fmt: skip
LABELS = {field.name: field.label for group in GROUPS.values() for field in group}
