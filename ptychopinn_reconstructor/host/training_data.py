"""Training data: the files in the folder that the host names, or the selected scan.

Files come first; for a pretraining, which is for the probe of the selected product, that product does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ptychodus.api.reconstruct import ReconstructInput

from ..errors import ScanError
from .scans import HostScan

TRAIN, TEST = 'train_data.npz', 'test_data.npz'
DIFFRACTION, PRODUCT = 'diffraction.h5', 'product.h5'
OWN_FILES = {'probe.npz'}  # what a training of ours leaves in its folder


@dataclass(frozen=True)
class TrainingFiles:
    """Scan files, and one for validation in place of held-out patterns."""

    scans: tuple[Path, ...]
    validation: Path | None = None

    def __str__(self) -> str:
        names = ', '.join(path.name for path in self.scans)
        return names if self.validation is None else f'{names}, validated on {self.validation.name}'


@dataclass(frozen=True, eq=False)
class TrainingSource:
    """Files or the selected scan, to train on or to pretrain for their instrument."""

    files: TrainingFiles | None
    scan: HostScan | None
    pretraining: bool

    @classmethod
    def of(cls, folder: Path, selected: ReconstructInput | None, *, pretraining: bool) -> TrainingSource:
        """Source found in the folder or the host; ScanError if there is none, or it cannot be used."""
        files = None if pretraining and selected is not None else find_training_files(folder)
        scan = HostScan.of(selected) if files is None and selected is not None else None
        if files is None and scan is None:
            raise ScanError(
                f'{folder} holds no training data; put train_data.npz (and test_data.npz), exported NPZ files, '
                'or diffraction.h5 with product.h5 there.'
            )
        return cls(files, scan, pretraining)

    @property
    def name(self) -> str:
        """Name of the selected product; empty where files are used."""
        return str(self.scan.product.metadata.name) if self.scan is not None else ''

    def __str__(self) -> str:
        """Sentence for the log."""
        if self.files is None:
            what = f'the selected product {self.name!r}'
            return (
                f'Pretraining for the probe of {what}.'
                if self.pretraining
                else (f'Training on {what}: the folder holds no training data.')
            )
        if self.pretraining:
            return f'Pretraining for the probe of {self.files.scans[0].name}.'
        return f'Training on {self.files}.'


def find_training_files(folder: Path) -> TrainingFiles | None:
    """Training data in a folder; None if there is none.

    In this order: train_data.npz, with test_data.npz if it is there; diffraction.h5 with product.h5 (the host's own
    layout); every other NPZ file, as the host exports them. Raises ScanError when the folder is none, or half of the
    layout is missing.
    """
    if not folder.is_dir():
        raise ScanError(f'{folder} is not a folder; choose the folder that holds the training data.')
    train, test = folder / TRAIN, folder / TEST
    if train.is_file():
        return TrainingFiles((train,), test if test.is_file() else None)
    layout = [folder / name for name in (DIFFRACTION, PRODUCT)]
    if layout[0].is_file():
        if not layout[1].is_file():
            raise ScanError(f'{folder} holds {DIFFRACTION} but no {PRODUCT}; save the product of the scan beside it.')
        return TrainingFiles((folder,))
    exported = tuple(sorted(path for path in folder.glob('*.npz') if path.name not in OWN_FILES))
    return TrainingFiles(exported) if exported else None
