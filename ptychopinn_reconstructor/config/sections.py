"""The sections of the configuration and their settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import field_validator, model_validator

from .fields import LEARNS_FROM_SCANS, PLUGIN_SECTION, SIMULATES, Section, setting


class ModelConfig(Section):
    """The network and the object it describes."""

    N: int | None = setting(
        None, 'Side of a diffraction pattern in pixels; a multiple of 16. auto: that of the scan.', ge=16, auto=True
    )
    gridsize: int = setting(
        1,
        'Patterns that must agree with each other: gridsize^2 in a region (see neighbor_count).',
        ini='PtychoPINNModel.GridSize',
        ge=1,
        le=8,
        applies='pinn',
    )
    n_filters_scale: float = setting(
        2,
        'Width of the network: 2 gives channel widths (32, 48, 64), other values scale them in proportion.',
        ini='PtychoPINNModel.NumFiltersScale',
        gt=0,
        le=16,
    )
    model_type: Literal['pinn', 'supervised'] = setting(
        'pinn', "pinn learns from the likelihood of the patterns alone; supervised learns from the scan's object."
    )
    architecture: str = setting(
        's2d_unet', 's2d_unet: residual U-Net on a space-to-depth grid; others as a backend offers them.'
    )
    amp_activation: Literal['sigmoid', 'swish', 'softplus', 'relu'] = setting(
        'sigmoid',
        'Last function of the amplitude; each starts at an amplitude of 1. Only sigmoid is bounded, by amplitude_max.',
        ini='PtychoPINNModel.AmpActivation',
    )
    amplitude_max: float = setting(
        2.0, 'Largest object amplitude that the sigmoid can reach (transmission; 1 = empty).', gt=1, le=100
    )
    object_big: bool = setting(
        True,
        'True: the patterns of a region share one canvas, so that overlapping patches must agree. False: each alone.',
        ini='PtychoPINNModel.ObjectBig',
        applies='pinn',
    )
    probe_big: bool = setting(False, 'True: patches of 3/4 N instead of N/2, for probes with tails.')
    probe_mask: bool = setting(
        False,
        'True: the probe is set to zero outside a circle of diameter N/2, its power held.',
        ini='PtychoPINNModel.ProbeMask',
    )
    pad_object: bool = setting(
        True,
        'True: a patch covers the middle of its window, the rest is 1 (empty); False: it covers all N x N pixels.',
        ini='PtychoPINNModel.PadObject',
    )
    probe_scale: float = setting(
        1.0,
        "Factor on the probe's amplitude beyond probe_power; the object's amplitude is divided by it.",
        ini='PtychoPINNModel.ProbeScale',
        gt=0,
        le=100,
    )
    gaussian_smoothing_sigma: float = setting(
        0.0,
        "Standard deviation in pixels of a Gaussian that smooths the network's patches; 0: none.",
        ini='PtychoPINNModel.GaussianSmoothingSigma',
        ge=0,
        le=32,
    )

    @property
    def block(self) -> int:
        """Patch pixels along one side of a cell of the network's grid, whose side is N/4."""
        return 4 if not self.pad_object else 3 if self.probe_big else 2

    @property
    def patch_size(self) -> int:
        """Side n of a patch in pixels: N/2, 3/4 N or N; N must be known."""
        assert self.N is not None
        return self.block * self.N // 4


class DataConfig(Section):
    """Which patterns are used, and in which unit they and the probe are."""

    train_data_file: Path | None = setting(None, "Scan to train on; the command line's SCAN arguments come first.")
    test_data_file: Path | None = setting(
        None, 'Scan to validate on, instead of holding out a part of the training scan.', sources=LEARNS_FROM_SCANS
    )
    source: Literal['scans', 'procedural', 'mixed'] = setting(
        'scans',
        'scans: train on them; procedural: pretrain for their probe, on objects drawn on the fly; mixed: '
        'both in turns.',
    )
    measurement_domain: Literal['auto', 'counts', 'amplitude'] = setting(
        'auto',
        'Unit of the patterns in a file: counts, their square root, or decided by a test that refuses doubtful cases.',
    )
    as_is: bool = setting(
        False,
        'Take scans as they are: nothing is masked, left out, moved or scaled that looks like a fault of the detector, '
        'the positions or the file.',
    )
    probe_power: Literal['auto', 'absolute', 'from_counts'] = setting(
        'auto',
        "absolute trusts the probe's power (counts); from_counts rescales it so that mean abs(O)^2 = 1; auto decides.",
    )
    nphotons: float | None = setting(
        None,
        'Mean photons per pattern, for patterns that hold no counts (normalized ones); None: taken as they are.',
        ini='PtychoPINNTraining.NumPhotons',
        gt=0,
    )
    n_groups: int | None = setting(
        None, 'Regions an epoch; auto: as many as see each pattern once on average.', ge=1, auto=True
    )
    n_subsample: int | None = setting(
        None, 'Train on so many randomly drawn patterns only; None: all.', ge=2, sources=LEARNS_FROM_SCANS
    )
    neighbor_count: int = setting(
        7,
        'Nearest neighbors of a seed: a region holds max(gridsize^2, neighbor_count + 1) patterns.',
        ini='PtychoPINNInference.NumNearestNeighbors',
        ge=0,
        le=63,
        applies='pinn',
    )
    positions_provided: bool = setting(
        True,
        'False: training does not use the scan positions, each pattern is learnt alone; reconstruction always does.',
        ini='PtychoPINNTraining.PositionsProvided',
        applies='pinn',
    )
    validation_fraction: float = setting(
        0.05,
        'Part of the patterns, contiguous in position, that is held out to choose the best epoch.',
        ge=0,
        lt=0.5,
        sources=LEARNS_FROM_SCANS,
    )


class TrainingConfig(Section):
    """How the network is trained."""

    batch_size: int | None = setting(
        None,
        'Patterns a step, rounded down to whole regions (at least one); auto: about 65,000 detector pixels.',
        ini='PtychoPINNTraining.BatchSize',
        ge=1,
        auto=True,
    )
    nepochs: int = setting(
        44,
        'Epochs; one sees about every training pattern once.',
        ini='PtychoPINNTraining.NumEpochs',
        ge=1,
        option='--epochs',
    )
    max_cpu_seconds: float | None = setting(
        None,
        'End training cleanly after so much CPU time of the process, the learning-rate schedule scaled to it.',
        gt=0,
    )
    nll_weight: float = setting(
        1.0, 'Weight of the Poisson likelihood per pixel.', ini='PtychoPINNTraining.NLLWeight', ge=0, applies='pinn'
    )
    mae_weight: float = setting(
        0.0,
        'Weight of the mean absolute error of the diffraction amplitude, in units of its root mean square.',
        ini='PtychoPINNTraining.MAEWeight',
        ge=0,
        applies='pinn',
    )
    realspace_mae_weight: float = setting(
        0.0,
        'Weight of the mean absolute error of the object where the probe lights it.',
        ini='PtychoPINNTraining.RealspaceMAEWeight',
        ge=0,
        applies='supervised',
    )
    realspace_weight: float = setting(
        0.0,
        'Weight of the total variation of the object where the probe lights it: the larger, the flatter.',
        ini='PtychoPINNTraining.RealspaceWeight',
        ge=0,
    )
    far_field_weight: float = setting(
        1.0, 'Weight of the error of the complex far field beside that of the exit wave.', ge=0, applies='supervised'
    )
    dose_range: float = setting(
        3.0,
        "Pretraining only: photons per pattern are drawn from the instrument's divided by this to those times this.",
        ge=1,
        le=1000,
        sources=SIMULATES,
    )
    probe_trainable: bool = setting(
        False,
        'True: the probe is trained too, its power held, with a weak pull to where it began.',
        ini='PtychoPINNTraining.ProbeTrainable',
        applies='pinn',
    )
    intensity_scale_trainable: bool = setting(
        False,
        'True: a factor on the probe, confined to 5 %, is trained and folded into the saved probe.',
        ini='PtychoPINNTraining.IntensityScaleTrainable',
        applies='pinn',
    )
    refine_probe_first: int = setting(
        0,
        'Passes of the engine over the first scan that improve its probe, for all scans with the same, before '
        'training.',
        ge=0,
        sources=LEARNS_FROM_SCANS,
    )
    refine_positions_first: int = setting(
        0,
        'Passes of the engine over the first scan that improve its scan positions before training.',
        ge=0,
        sources=LEARNS_FROM_SCANS,
    )
    learning_rate: float = setting(
        2e-3,
        'Largest learning rate of AdamW; of a training that starts from a model 5e-4 unless another is set.',
        gt=0,
        le=1,
    )
    scheduler: Literal['cosine', 'constant'] = setting(
        'cosine', 'cosine: 8 % warm-up, then a cosine down to 2 %; constant: warm-up, then constant.'
    )
    accum_steps: int = setting(1, 'Batches whose gradients are added up before a step.', ge=1)
    gradient_clip_val: float = setting(1.0, 'Largest norm of the gradient; 0: not clipped.', ge=0)
    seed: int = setting(
        0, 'Seed of the weights, the regions, the held-out part and the patterns drawn by n_subsample.', ge=0
    )
    checkpoint_monitor_metric: Literal['val_loss', 'train_loss'] = setting(
        'val_loss', 'What `best` and early stopping look at; train_loss is used where nothing is held out.'
    )
    early_stop_patience: int | None = setting(
        None, 'Stop after so many epochs without improvement; None: train to the end.', ge=1
    )
    output_dir: Path | None = setting(
        None, "Folder for checkpoints, metrics and the model; the command line's --output-dir comes first."
    )


class InferenceConfig(Section):
    """How a trained network is turned into an object."""

    model_path: Path | None = setting(
        None,
        "The trained model (model.safetensors); the command line's --model comes first.",
        ini='PtychoPINNInference.ModelPath',
        option='--model',
    )
    inference_batch_size: int | None = setting(
        None,
        'Patterns a batch; does not change the result. auto: 64, and fewer above N = 128 (about a million pixels).',
        ge=1,
        auto=True,
    )
    sync_neighbors: int = setting(
        24,
        'Neighbors of a patch in the phase synchronization; 0: none, patches are averaged as they are.',
        ge=0,
        le=128,
    )
    split_frc: bool = setting(
        False,
        'True: two halves of the patterns are stitched and refined too, and their agreement (FRC) tells the '
        'resolution.',
    )
    middle_trim: int | None = setting(
        None,
        'Side in pixels of the middle of each patch that is stitched, an even number; None: the whole patch.',
        ge=2,
        multiple_of=2,
    )
    debug: bool = setting(
        False, 'True: the patches before stitching are kept beside the result, in patches.h5.', option='--keep-patches'
    )


class RefinementConfig(Section):
    """The engine, which improves an object after a network, or finds it alone from an empty one."""

    passes: int | None = setting(
        None,
        'Visits of each pattern; auto: more where spots overlap little and where more is unknown: 5 to 60.',
        ini=f'{PLUGIN_SECTION}.RefinePasses',
        auto=True,
        ge=0,
        le=1000,
    )
    prior: float | None = setting(
        None,
        'Strength of the prior, which takes back what only follows counting noise, 0: none; auto: 1, less where light '
        'is so scarce that fine texture could not be told from noise.',
        ini=f'{PLUGIN_SECTION}.RefinePrior',
        auto=True,
        ge=0,
        le=100,
    )
    probe: bool = setting(
        False,
        'True: the probe is improved too, its power and center held; 20 passes or more unless they are set.',
        ini=f'{PLUGIN_SECTION}.RefineProbe',
        option='--refine-probe',
    )
    modes: int | None = setting(
        None,
        'Incoherent modes of the probe, which is improved with them; 0: as many as are given; auto: as they are where '
        'they fit, otherwise as many as patterns that were held out ask for.',
        option='--modes',
        auto=True,
        ge=0,
        le=16,
    )
    positions: bool = setting(
        False,
        'True: the scan positions are improved too, by 5 pixels at most; 20 passes or more unless they are set.',
        ini=f'{PLUGIN_SECTION}.RefinePositions',
        option='--refine-positions',
    )
    auto: bool = setting(
        False,
        'True: the scan is diagnosed first, in at most a minute of CPU time: what that finds is mended, and probe and '
        'positions are refined where the patterns ask for it.',
        option='--auto',
    )
    wavefront: bool = setting(
        True,
        'True: the long-range phase is solved for from the slopes of all patterns, after stitching, after passes 1, 2, '
        '4, 8 ... and the last.',
    )
    background: Literal['auto', 'on', 'off'] = setting(
        'auto',
        'Whether a smooth background of the patterns is estimated with the object, never subtracted; auto does it '
        'where their dark part holds light that does not vary as speckle does.',
    )
    intensity: Literal['auto', 'on', 'off'] = setting(
        'auto',
        'Whether a factor on the power of the beam is estimated for each pattern; auto does it where the patterns say '
        'that it drifts or flickers.',
    )

    learned_step: Literal['auto', 'on', 'off'] = setting(
        'auto',
        'Whether a network that has seen many objects corrects the object after the passes, as far as the patterns '
        'allow; what it changed is told and shown. auto does it where it is measured to gain: where light is scarce or '
        'spots overlap little.',
    )
    fresnel_number: float | None = setting(
        None,
        'Fresnel number of a pixel of a near-field scan, pixel^2 / (wavelength * effective distance); None: what the '
        'file says. The engine alone takes such scans.',
        option='--fresnel-number',
        gt=0,
        le=1000,
    )

    @field_validator('background', 'intensity', 'learned_step', mode='before')
    @classmethod
    def _name_switch(cls, value: Any) -> Any:
        """YAML reads on and off as true and false."""
        return {True: 'on', False: 'off'}[value] if isinstance(value, bool) else value


class ExecutionConfig(Section):
    """Where and how it runs; never changes the mathematics."""

    backend: str = setting(
        'torch',
        'Backend by entry-point name: torch (PyTorch), tensorflow (TensorFlow), or onnx (ONNX Runtime, no training).',
        ini=f'{PLUGIN_SECTION}.Backend',
    )
    device: str = setting(
        'auto',
        'auto, cpu, cuda, cuda:1, mps, gpu:0 ...; one that is not there is an error.',
        ini=f'{PLUGIN_SECTION}.Device',
    )
    num_workers: int = setting(0, 'Processes that prepare batches; 0: none besides the main one.', ge=0)
    pin_memory: bool = setting(
        False, 'True: batches are put in page-locked memory, for faster transfer to a GPU (PyTorch only).'
    )
    precision: Literal['32', '16-mixed', 'bf16-mixed'] = setting(
        '32',
        'Number format of the network; the physics stays in single precision. On a CPU bf16-mixed is refused where it '
        'has no instructions for bfloat16, and 16-mixed always: both would be several times slower.',
    )
    threads: int | None = setting(
        None,
        'CPU threads; auto: all cores for a reconstruction, or the OMP_NUM_THREADS that are set, one for a training, '
        'where more cost 1.4 to 5 times.',
        ge=1,
        le=256,
        auto=True,
    )
    strategy: Literal['auto', 'ddp'] = setting(
        'auto',
        'ddp: several processes train one network, started by torchrun or srun (PyTorch only); auto is one process.',
    )
    devices: int = setting(1, 'Processes of strategy ddp on each machine, a GPU each where there are any.', ge=1)
    num_nodes: int = setting(1, 'Machines of strategy ddp.', ge=1)
    logger_backend: Literal['csv', 'tensorboard', 'mlflow', 'none'] = setting(
        'csv', 'Where metrics go besides metrics.csv, which is always written unless this is none.'
    )
    scratch_dir: Path | None = setting(
        None,
        'Folder for what does not fit into memory: patches of a network, patterns that are unpacked, 32 GB each for a '
        "million patterns of N = 128; None: the system's for temporary files.",
        option='--scratch',
    )
    progress: bool = setting(True, 'False: no progress bar.')

    @model_validator(mode='after')
    def _refuse_what_needs_another_strategy(self) -> Self:
        if self.strategy == 'auto' and (self.devices, self.num_nodes) != (1, 1):
            name = 'devices' if self.devices != 1 else 'num_nodes'
            raise ValueError(f'{name} is {getattr(self, name)} but strategy auto is one process; set strategy ddp')
        if self.strategy == 'ddp' and ':' in self.device:
            raise ValueError(f'device is {self.device} but strategy ddp gives each process its own; name no number')
        return self
