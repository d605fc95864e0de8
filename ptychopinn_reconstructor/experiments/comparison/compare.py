"""Two backends on one scan: each trains, each reconstructs with every model, and what comes out is held side by side.

Every training and every reconstruction is a command of ours in a process of its own, so that its time and memory are
its own and no two frameworks meet. Layout of the output folder, T and R being backends:

- T/model/: what `ptychopinn train` writes, trained with T.
- T_in_R/: what `ptychopinn reconstruct` writes with T's model in R, no refinement; T_in_R/refined/ the same with
  refinement.passes, where these are asked for.
- report.json (see `compare`), report.md and the pictures that it shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...config import Config
from ...events import Emit, ShouldStop, ignore, never
from ...io import ObjectFile, read_scan
from ...io.atomic import atomic_path
from ...physics.scoring.metrics import default_margin
from ...reconstruction.writing import finite, write_json
from .figures import Cell, cell_values, independent, notes_of, parity
from .input import Truth, check_input, chosen_backends, refuse_to_replace
from .steps import Steps

FORMAT_VERSION = 1
GOAL = 1e-5  # largest difference of one model in two backends, of the amplitude range
GOAL_DB = 1.0  # largest difference of a PSNR between models trained independently
# Settings that are given in another way, or that each step has for itself.
OWN = ('execution.backend', 'execution.progress', 'training.output_dir', 'data.train_data_file', 'inference.model_path')


def compare(
    scan: str | Path,
    output_dir: str | Path,
    config: Config | None = None,
    *,
    backends: Sequence[str] | None = None,
    probe: str | None = None,
    truth: str | Path | None = None,
    margin: int | None = None,
    initial: str | Path | None = None,
    overwrite: bool = False,
    emit: Emit = ignore,
    should_stop: ShouldStop = never,
) -> dict[str, Any]:
    """Train and reconstruct a scan with each backend, write report.json, report.md and pictures, return the report.

    Parameters
    ----------
    backends
        Names as in `load_backend`, at least two; None: all that are installed.
    probe
        'FILE[:KEY]' in place of the scan's own, for training and reconstruction.
    truth
        File with the true object; None: the scan's own, where it has one.
    margin
        Pixels left out of the comparison with the truth inside the outermost patch centers; None: N / 16.
    initial
        A model that every backend trains further, so that all begin with the same weights.
    overwrite
        Replace an earlier comparison in the folder.

    Returns
    -------
    dict
        Plain JSON types, numbers finite; figures that could not be made are None and `notes` say why.

        - format_version (1), scan, patterns, N, truth (where it is from, or None), margin, backends
        - settings: those that differ from their default, by 'section.name'
        - machine: processor, cpus, platform, python, packages (versions by name)
        - training, by backend: model (path in the folder), device, parameters, versions, epochs, patterns_seen,
          fit_cpu_seconds (without imports and reading), cpu_ms_per_pattern (of these), first_loss, last_loss,
          best_loss, last_val_loss, best_val_loss, best_epoch (whose weights the model has), history (rows of epoch,
          training loss, validation loss) and process
        - process: wall_seconds, cpu_seconds, peak_memory_mib, from the operating system
        - cells, by folder T_in_R: trained, reconstructed, network, and refined or None. These two hold device,
          residual, stages (seconds by stage, as in metrics.json), image (`Comparison.to_dict` against the truth, or
          None) and process
        - parity, one model in two backends: goal, met, and models, a list of trained, reconstructed, network and
          refined (or None). These hold object_difference (max abs(a - b) / max abs(a), a where it was trained),
          residual_difference (relative) and met
        - independent, own model in own backend: goal_db, met (None without a truth), and pairs, a list of backends
          [A, B], network and refined (or None). These hold figures (B less A), agreement (`Comparison.to_dict` of B
          with A as the truth, or None) and met
        - pictures, by kind: path in the folder
        - notes

    Raises
    ------
    ConfigError, BackendError, ScanError, OutputError
        Before any work.
    InputError, PtychoPINNError, Interrupted
        When a step fails or is stopped, with its own sentence; what was trained before stays.
    """
    names = chosen_backends(backends)
    config = config or Config()
    found = read_scan(scan, domain=config.data.measurement_domain, probe=probe)
    check_input(found, str(scan), config)
    margin = default_margin(found.scan.n_pixels) if margin is None else margin
    true = Truth.of(found, truth, margin)
    refuse_to_replace(Path(output_dir), names, overwrite)
    steps = Steps(str(scan), Path(output_dir), config, names, probe, initial, overwrite, emit, should_stop)
    training, cells = steps.run(true.object, margin)
    notes = dict.fromkeys([*(notice.text for notice in found.notices), *true.notes, *notes_of(cells)])
    report: dict[str, Any] = {
        'format_version': FORMAT_VERSION,
        'scan': str(scan),
        'patterns': len(found.scan),
        'N': found.scan.n_pixels,
        'truth': true.source,
        'margin': margin,
        'backends': names,
        'settings': changed_settings(config),
        'machine': machine(),
        'training': training,
        'cells': {name: cell_values(cell) for name, cell in cells.items()},
        'parity': parity(cells, names, GOAL),
        'independent': independent(cells, names, GOAL_DB, margin),
        'notes': list(notes),
    }
    return _write(Path(output_dir), report, cells, true.object, margin)


def _write(
    folder: Path, report: dict[str, Any], cells: dict[str, Cell], truth: ObjectFile | None, margin: int
) -> dict[str, Any]:
    from .pictures import write_pictures
    from .report import markdown

    report['pictures'] = write_pictures(folder, report, cells, truth, margin)
    values: dict[str, Any] = finite(report)
    with atomic_path(folder / 'report.md') as temporary:
        temporary.write_text(markdown(values), encoding='utf-8')
    write_json(folder / 'report.json', values)
    return values


def changed_settings(config: Config) -> dict[str, Any]:
    """The settings that differ from their default, by 'section.name'; those of OWN are left out."""
    values, default = config.to_json(), Config().to_json()
    return {
        f'{section}.{name}': value
        for section, fields in values.items()
        if isinstance(fields, dict)
        for name, value in fields.items()
        if value != default[section][name] and f'{section}.{name}' not in OWN
    }


def machine() -> dict[str, Any]:
    """What this runs on: processor, operating system, versions."""
    import platform

    from ...environment import examine

    path = Path('/proc/cpuinfo')
    lines = path.read_text().splitlines() if path.exists() else []
    models = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    processor = models[0] if models else platform.processor() or platform.machine()
    found = examine(quick=True)
    return {'processor': processor, **{key: found[key] for key in ('cpus', 'platform', 'python', 'packages')}}
