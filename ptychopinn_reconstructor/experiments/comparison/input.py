"""What a comparison is asked to compare, checked before any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...backend import backend_entry_points, installed, load_backend, name_of
from ...config import Config
from ...errors import ConfigError, InputError, OutputError, ScanError
from ...io import ObjectFile, ScanFile, read_object


def chosen_backends(names: Sequence[str] | None) -> list[str]:
    """At least two backends of different names, all of them installed; nothing is imported to find out.

    Raises BackendError when one that is named is unknown or not installed, ConfigError when there are not two.
    """
    if names is None:
        there = installed()
        if len(there) < 2:
            raise ConfigError(
                f'A comparison needs two backends but {" and ".join(there) or "none"} is all that is installed here; '
                "install the others with: pip install 'ptychopinn-reconstructor[all]'"
            )
        return there
    chosen = list(dict.fromkeys(name_of(name) for name in map(str.strip, names)))
    for name in chosen:
        if name not in installed():
            load_backend(name)  # raises, with the sentence that says how to install it
    if len(chosen) < 2:
        raise ConfigError(
            f'A comparison needs two different backends but only {", ".join(chosen) or "none"} is named; '
            f'there are: {", ".join(sorted(backend_entry_points()))}.'
        )
    return chosen


def check_input(found: ScanFile, name: str, config: Config) -> None:
    """Before the first training, what each would refuse: ScanError without a probe, ConfigError for a wrong N."""
    from ...training.setup import complete_config

    if found.scan.probe is None:
        raise ScanError(f'{name} has no probe (probeGuess); pass one with --probe FILE[:KEY].')
    complete_config([found.scan], config)


def refuse_to_replace(folder: Path, names: Sequence[str], overwrite: bool) -> None:
    """OutputError when the folder is a file, or holds an earlier comparison that is not to be replaced."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"Cannot write into the folder '{folder}': it is a file; choose another output folder.")
    there = [
        path
        for path in ('report.json', *(f'{name}/model/model.safetensors' for name in names))
        if (folder / path).exists()
    ]
    if there and not overwrite:
        raise OutputError(
            f'The folder {folder} already holds a comparison ({there[0]}); '
            'pass --overwrite to replace it, or another --output-dir.'
        )


@dataclass(frozen=True, eq=False)
class Truth:
    """The true object, where it is from, and what to know about it."""

    object: ObjectFile | None = None
    source: str | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, found: ScanFile, given: str | Path | None, margin: int) -> Truth:
        """The object that was given, or the scan's own where it can serve; InputError when the given one cannot."""
        from ...physics.scoring.metrics import check_truth

        scan = found.scan
        if given is not None:
            read = read_object(given)
            check_truth(read.object, read.origin, scan.positions, margin=margin)
            return cls(read, str(given))
        if scan.object is None:
            return cls(notes=('The scan has no object, so the results are compared with each other only.',))
        if np.all(scan.object == scan.object.flat[0]):
            return cls(notes=("The scan's object is flat, an empty guess: it is not taken as the truth.",))
        try:
            check_truth(scan.object, scan.object_origin, scan.positions, margin=margin)
        except InputError as error:
            return cls(notes=(f"The scan's own object cannot serve as the truth: {error}",))
        note = "The truth is the scan's own object; pass --truth FILE if that is only a guess."
        return cls(ObjectFile(scan.object, scan.object_origin, scan.positions), "the scan's own object", (note,))
