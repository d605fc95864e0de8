"""Fields of the panel: groups of settings with their labels, units and words."""

from __future__ import annotations

import os
from dataclasses import dataclass

from .model_file import MODEL_FILTER

MAIN, ADVANCED = 'Settings', 'Advanced'
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


# In the order of the panel; all but the first are closed at first.
GROUPS: dict[str, tuple[Field, ...]] = {
    MAIN: (
        Field('backend', 'Backend', text='The framework that trains the network and infers with it.'),
        Field('device', 'Device', text='Where the network and the refinement run. auto: the best device that is there. '
              'Others can be typed: cuda:1, mps, gpu:0 ...; one that is not there is an error.'),
        Field('source', 'Training source', titles=SOURCES, text='Scans: Train learns from the scan that is selected, '
              'or from the files in the training folder. Pretrain for this probe: it learns from simulated objects '
              'under the probe of the selected product, with its counts and bad pixels; no scan is learned from, and '
              'the model then serves every sample of this instrument. Both in turns: a step on the scan, a step on '
              'simulated objects.'),
        Field('nepochs', 'Epochs', 'epochs'),
        Field('max_cpu_seconds', 'CPU time limit (s)', 's', 'no limit', text='Train ends after so many seconds of '
              'computing time, if its epochs are not done before: a second on four busy cores counts as four. The '
              'learning rate falls in time for it. 0 (no limit): all epochs.'),
        Field('passes', 'Refinement', 'passes', 'automatic'),
        Field('probe', 'Refine probe on Infer', text='Checked: the passes of the refinement improve the probe, too; '
              'the result shows it. Unchecked: the probe stays, unless the patterns clearly ask for another. '
              'Recommended for a bad probe where a model is there already; before a training, refine it there.'),
        Field('positions', 'Refine positions on Infer', text='Checked: the passes of the refinement move the scan '
              'positions to where the patterns ask for them; first the whole scan is turned and scaled. Unchecked: the '
              'positions stay.'),
        Field('model_path', 'Model', empty='none', text='The model (model.safetensors) that Infer uses. Train and '
              'Load Model set it.', caption='Choose Model', file_filter=MODEL_FILTER),
    ),
    'Training': (
        Field('start_from_model', 'Start from model', text='Checked: Train goes on from the model that Infer uses, '
              'whose network it takes over: fine-tuning, quicker than a training from nothing. Unchecked: it starts '
              'with random weights. With a learning rate left at its default, such a training has a quarter of it.'),
        Field('resume', 'Resume', text='Checked: Train goes on with the training in its folder, if there is one that '
              'was stopped or is to have more epochs. Unchecked: Train starts anew, what is there is kept beside it.'),
        Field('refine_probe_first', 'Refine probe before Train', 'passes', 'none', text='So many passes of the '
              'iterative engine improve the probe before the network learns with it. Recommended for a bad probe: 20, '
              'since what the network has learned fits its probe alone. 0 (none): the probe is taken as it is.'),
        Field('refine_positions_first', 'Refine positions before Train', 'passes', 'none', text='So many passes of '
              'the iterative engine correct the scan positions before the network learns with them; 20 where they are '
              'off by more than half a pixel. 0 (none): they are taken as they are.'),
        Field('probe_trainable', 'Learn probe with network', text='Checked: the network and the probe are learned '
              'together, which corrects a probe that is nearly right. For a bad one, refine it before. Unchecked: the '
              'probe is fixed while the network learns.'),
        Field('intensity_scale_trainable', 'Train the scale'),
        Field('batch_size', 'Batch size', 'patterns', 'automatic'),
        Field('learning_rate', 'Learning rate'),
        Field('nll_weight', 'Likelihood weight'),
        Field('mae_weight', 'Amplitude weight'),
        Field('far_field_weight', 'Far-field weight'),
        Field('realspace_mae_weight', 'Object weight'),
        Field('realspace_weight', 'Flatness weight'),
        Field('dose_range', 'Range of doses', 'times more and less', text='For simulated objects: how much brighter '
              'and dimmer than your patterns the simulated ones are. 3: from a third to three times as many photons, '
              'so that the model serves scans of other exposure times, too.'),
        Field('validation_fraction', 'Held-out part', 'fraction of the patterns', text='Part of the scan that the '
              'network never learns from. How well it does there (the held-out loss) shows whether it has learned the '
              'sample or only remembers the patterns. 0.05: five of a hundred patterns.'),
        Field('early_stop_patience', 'Early stop after', 'epochs', 'never'),
        Field('checkpoint_monitor_metric', 'Best epoch by', text='Which loss says which epoch is the best one, whose '
              'network becomes the model. val_loss: the loss of the patterns that are held out; train_loss: that of '
              'the patterns it learns from, also used where none are held out.'),
    ),
    'Network': (
        Field('gridsize', 'Grid size', text='So many patterns in a row and a column must agree with each other: 2 '
              'means regions of at least 4 neighboring patterns. The line Region says what results with Neighbors.'),
        Field('neighbor_count', 'Neighbors', 'patterns', text='So many nearest neighbors of a pattern must agree with '
              'it in training. The larger of Grid size squared and this plus one is the size of a region.'),
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
        Field('n_subsample', 'Train on', 'patterns', 'all patterns', text='The network learns from so many patterns of '
              'the scan, drawn at random, instead of all: to see quickly whether a training works, or how many '
              'patterns are needed. 0 (all patterns): every one. Seed (Advanced) says which are drawn.'),
    ),
    'Inference': (
        Field('start_from_object', 'Start from the object', text='Checked: Infer refines the object of the selected '
              'product with the iterative engine, whoever made it: to polish a result, or to go on with a stopped one. '
              'No model is used. Unchecked: the object of the network is refined.'),
        Field('prior', 'Prior', empty='automatic', text='How strongly the refinement smooths away what only follows '
              'counting noise. 0: nothing is smoothed; 1: usual; more: smoother, with less fine detail. Empty '
              '(automatic): 1, less where there is so little light that fine texture looks like noise.'),
        Field('sync_neighbors', 'Synchronization', 'neighbors', 'none'),
        Field('wavefront', 'Wavefront from slopes', text='Checked: slow waves in the phase across many spots, which '
              'single patterns hardly show, are computed from how all patterns are shifted. Leave it checked unless '
              'the sample is a ramp of phase that should be kept exactly as the passes find it.'),
        Field('auto', 'Diagnose the scan first'),
        Field('modes', 'Modes of the probe', empty='automatic'),
        Field('fresnel_number', 'Fresnel number', 'a pixel, near field', 'of the product'),
        Field('background', 'Background'),
        Field('intensity', 'Power of the beam'),
        Field('learned_step', 'Learned step'),
        Field('inference_batch_size', 'Batch size', 'patterns', 'automatic'),
        Field('split_frc', 'Resolution from halves'),
        Field('middle_trim', 'Stitched middle', 'pixels', 'whole patch', text='Of each patch that the network makes, '
              'only the middle square of so many pixels is put into the picture: its edges are less sure, but more '
              'overlap is needed then. 0 (whole patch): all of it.'),
    ),
    'Files': (
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
        Field('threads', 'CPU threads', 'threads', 'automatic'),
        Field('precision', 'Precision', 'bits'),
        Field('seed', 'Seed', text='Number from which everything random follows: first weights, order and regions of '
              'the training, which patterns are held out, and which ones Train on draws. The same number gives the '
              'same model again; others show how much chance matters.'),
        Field('scheduler', 'Rate schedule'),
        Field('accum_steps', 'Batches a step', 'batches'),
        Field('gradient_clip_val', 'Gradient limit'),
        Field('n_groups', 'Regions an epoch', 'regions', 'automatic'),
        Field('probe_mask', 'Mask the probe'),
        Field('probe_scale', 'Probe scale', text='Factor on the amplitude of the probe beyond Probe power; the '
              'amplitude of the object is divided by it. 4, which Ptychodus sets by itself, means 1.'),
        Field('nphotons', 'Photons', 'photons a pattern', text='Mean photons per pattern, where the patterns hold no '
              'counts but normalized values; counts are never touched. 1000000, which Ptychodus sets by itself, means '
              'that they are taken as they are.'),
        Field('debug', 'Keep the patches', text='Checked: the patches before stitching are kept beside the model, in '
              'patches.h5.'),
        Field('num_workers', 'Loader processes', 'processes', 'none'),
        Field('pin_memory', 'Pinned memory'),
        Field('logger_backend', 'Metrics logger'),
    ),
}  # fmt: skip
LABELS = {field.name: field.label for group in GROUPS.values() for field in group}
