"""Two backends on one scan: each trains, each reconstructs with every model, and what comes out is held side by side.

Every training and every reconstruction is a command of ours in a process of its own, so that its time and memory are
its own and no two frameworks meet. Layout of the output folder, T and R being backends:

- T/model/: what `ptychopinn train` writes, trained with T.
- T_in_R/: what `ptychopinn reconstruct` writes with T's model in R, no refinement; T_in_R/refined/ the same with
  refinement.passes, where these are asked for.
- report.json (see `compare`), report.md and the pictures that it shows.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..backend import find_entry_points, installed, resolve_name
from ..config import Config
from ..environment import examine
from ..errors import ConfigError, InputError, OutputError, ScanError
from ..events import Emit, ShouldStop, ignore, never
from ..io import ObjectFile, ScanFile, read_object, read_scan
from ..io.atomic import write_atomically
from ..io.plain_json import to_plain_json, write_json
from ..physics.scoring.metrics import check_truth, default_margin
from ..training.folder import MODEL
from ..training.setup import complete_config
from .agreement import collect_notes, compare_independent, compare_parity
from .compare_report import format_report, write_pictures
from .exchange import Exchange, select_changed_settings
from .steps import Steps, Truth, check_backends

FORMAT_VERSION = 1
GOAL = 1e-5  # largest difference of one model in two backends, of the amplitude range
GOAL_DB = 1.0  # largest difference of a PSNR between models trained independently


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
    names = resolve_backends(backends)
    config, folder = config or Config(), Path(output_dir)
    scan_file = read_scan(scan, domain=config.data.measurement_domain, as_is=config.data.as_is, probe=probe)
    if scan_file.scan.probe is None:
        raise ScanError(f'{scan} has no probe (probeGuess); pass one with --probe FILE[:KEY].')
    complete_config([scan_file.scan], config)  # what every training would refuse
    margin = default_margin(scan_file.scan.n_pixels) if margin is None else margin
    true, source, truth_notes = find_truth(scan_file, truth, margin)
    check_replaceable(folder, names, overwrite)
    exchange = Exchange(str(scan), folder, config, probe, initial, overwrite)
    training, cells = exchange.run(Steps(emit, should_stop), names, true)
    report: dict[str, Any] = {
        'format_version': FORMAT_VERSION,
        'scan': str(scan),
        'patterns': len(scan_file.scan),
        'N': scan_file.scan.n_pixels,
        'truth': source,
        'margin': margin,
        'backends': names,
        'settings': select_changed_settings(config),
        'machine': describe_machine(),
        'training': training,
        'cells': {name: cell.to_json() for name, cell in cells.items()},
        'parity': compare_parity(cells, names, GOAL),
        'independent': compare_independent(cells, names, GOAL_DB, margin),
        'notes': list(
            dict.fromkeys([*(notice.text for notice in scan_file.notices), *truth_notes, *collect_notes(cells)])
        ),
    }
    report['pictures'] = write_pictures(folder, report, cells, margin)
    values: dict[str, Any] = to_plain_json(report)
    with write_atomically(folder / 'report.md') as temporary:
        temporary.write_text(format_report(values), encoding='utf-8')
    write_json(folder / 'report.json', values)
    return values


def resolve_backends(names: Sequence[str] | None) -> list[str]:
    """Names of at least two different installed backends, without importing a framework.

    Raises BackendError when one that is named is unknown or not installed, ConfigError when there are not two.
    """
    if names is None:
        available = installed(training=True)
        if len(available) < 2:
            raise ConfigError(
                f'A comparison needs two backends but {" and ".join(available) or "none"} is all that is installed '
                "here; install the others with: pip install 'ptychopinn-reconstructor[all]'"
            )
        return available
    chosen = list(dict.fromkeys(resolve_name(name) for name in map(str.strip, names)))
    check_backends(chosen)
    if len(chosen) < 2:
        raise ConfigError(
            f'A comparison needs two different backends but only {", ".join(chosen) or "none"} is named; '
            f'there are: {", ".join(sorted(find_entry_points()))}.'
        )
    return chosen


def check_replaceable(folder: Path, names: Sequence[str], overwrite: bool) -> None:
    """Raise OutputError if the folder is a file, or holds an earlier comparison that `overwrite` does not replace."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"Cannot write into the folder '{folder}': it is a file; choose another output folder.")
    replaced = ('report.json', *(f'{name}/model/{MODEL}' for name in names))
    available = [path for path in replaced if (folder / path).exists()]
    if available and not overwrite:
        raise OutputError(
            f'The folder {folder} already holds a comparison ({available[0]}); '
            'pass --overwrite to replace it, or another --output-dir.'
        )


def find_truth(
    scan_file: ScanFile, given: str | Path | None, margin: int
) -> tuple[Truth | None, str | None, tuple[str, ...]]:
    """True object, its source and notes on it: the object given, or the scan's own where it covers the scanned area.

    Raises InputError when the given one cannot.
    """
    scan = scan_file.scan
    if given is not None:
        read = read_object(given)
        check_truth(read.object, read.origin, scan.positions, margin=margin)
        return Truth(read, margin), str(given), ()
    if scan.object is None:
        return None, None, ('The scan has no object, so the results are compared with each other only.',)
    if np.all(scan.object == scan.object.flat[0]):
        return None, None, ("The scan's object is flat, an empty guess: it is not taken as the truth.",)
    try:
        check_truth(scan.object, scan.object_origin, scan.positions, margin=margin)
    except InputError as error:
        return None, None, (f"The scan's own object cannot serve as the truth: {error}",)
    own = Truth(ObjectFile(scan.object, scan.object_origin, scan.positions), margin)
    note = "The truth is the scan's own object; pass --truth FILE if that is only a guess."
    return own, "the scan's own object", (note,)


def describe_machine() -> dict[str, Any]:
    """Processor, number of CPUs, operating system and package versions of this machine."""
    path = Path('/proc/cpuinfo')
    lines = path.read_text().splitlines() if path.exists() else []
    models = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    processor = models[0] if models else platform.processor() or platform.machine()
    scan_file = examine(quick=True)
    return {'processor': processor, **{key: scan_file[key] for key in ('cpus', 'platform', 'python', 'packages')}}
