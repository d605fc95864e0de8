"""Handing a scan over: bit by bit, mapped, into a folder that is there for one job only."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scans import small_scan

from ptychopinn_reconstructor.errors import OutputError, ScanError
from ptychopinn_reconstructor.io import scratch as scratch_files
from ptychopinn_reconstructor.physics.simulation.simulate import simulate
from ptychopinn_reconstructor.worker import handover
from ptychopinn_reconstructor.worker.handover import (
    HEADROOM,
    LOCK,
    PREFIX,
    YOUNG,
    Scratch,
    read_arrays,
    restore_positions,
    write_arrays,
)

MIB = 2**20
Usage = namedtuple('Usage', 'total used free')  # of shutil.disk_usage


def arrays_of_a_scan(dtype: str = 'uint16') -> dict[str, NDArray[Any]]:
    scan = small_scan(positions=9, modes=2)
    bad = np.zeros((32, 32), dtype=bool)
    bad[3, 17] = True
    return {
        'diffraction': np.asarray(scan.diffraction).astype(dtype),
        'positions': scan.positions,
        'probe': np.asarray(scan.probe),
        'object': np.asarray(scan.object),
        'bad_pixels': bad,
        'pattern_indexes': np.arange(9) * 3 + 1,
    }


DESCRIPTION = {
    'domain': 'counts',
    'pixel_size': [2e-9, 3e-9],
    'on_object_grid': True,
    'metadata': {'name': 'a scan', 'photon_energy_eV': 8000.5},
}


def folders(parent: Path) -> list[str]:
    return sorted(path.name for path in parent.iterdir() if path.name.startswith(PREFIX))


@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'uint32', 'int32', 'float32', 'float64', '>u2'])
def test_a_scan_comes_back_bit_by_bit(tmp_path: Path, dtype: str) -> None:
    arrays = arrays_of_a_scan(dtype)
    write_arrays(tmp_path / 'scan', arrays, DESCRIPTION)
    scan = read_arrays(tmp_path / 'scan', as_is=True).scan
    for name, values in arrays.items():
        back = getattr(scan, name)
        assert back.dtype == values.dtype and back.tobytes() == values.tobytes(), name
    assert scan.scan_index is None and len(scan) == 9
    assert (scan.domain, scan.pixel_size, scan.on_object_grid) == ('counts', (2e-9, 3e-9), True)
    assert dict(scan.metadata) == DESCRIPTION['metadata']


def test_patterns_are_mapped_not_copied(tmp_path: Path) -> None:
    """What is written into the file afterwards is seen through the scan; the scan itself writes nothing."""
    arrays = arrays_of_a_scan()
    write_arrays(tmp_path, arrays, DESCRIPTION)
    scan = read_arrays(tmp_path, as_is=True).scan
    before = int(scan.diffraction[4, 5, 6])
    np.load(tmp_path / 'diffraction.npy', mmap_mode='r+')[4, 5, 6] = before + 7
    assert int(scan.diffraction[4, 5, 6]) == before + 7
    assert not scan.diffraction.flags.writeable


@pytest.mark.parametrize('order', ['transposed', 'strided', 'memory-mapped'])
def test_patterns_in_any_layout(tmp_path: Path, order: str) -> None:
    arrays = arrays_of_a_scan()
    patterns = arrays['diffraction']
    if order == 'transposed':
        arrays['diffraction'] = patterns.transpose(2, 1, 0).copy().transpose(2, 1, 0)
    elif order == 'strided':
        arrays['diffraction'] = np.repeat(patterns, 2, axis=0)[::2]
    else:
        np.save(tmp_path / 'elsewhere.npy', patterns)
        arrays['diffraction'] = np.load(tmp_path / 'elsewhere.npy', mmap_mode='r')
    write_arrays(tmp_path / 'scan', arrays, DESCRIPTION)
    assert np.array_equal(read_arrays(tmp_path / 'scan', as_is=True).scan.diffraction, patterns)


def test_what_is_not_there_is_left_out(tmp_path: Path) -> None:
    arrays: dict[str, Any] = arrays_of_a_scan() | {'object': None, 'bad_pixels': None, 'probe': None}
    write_arrays(tmp_path, arrays, {'domain': 'amplitude'})
    scan = read_arrays(tmp_path, as_is=True).scan
    assert scan.object is None and scan.bad_pixels is None and scan.probe is None
    assert scan.domain == 'amplitude' and scan.pixel_size is None


@pytest.mark.parametrize('damage', ['absent', 'no description', 'half a description', 'object arrays'])
def test_a_damaged_folder_is_a_sentence(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / 'scan'
    if damage != 'absent':
        write_arrays(folder, arrays_of_a_scan(), DESCRIPTION)
    if damage == 'no description':
        (folder / 'scan.json').unlink()
    elif damage == 'half a description':
        (folder / 'scan.json').write_text(json.dumps(DESCRIPTION)[:20])
    elif damage == 'object arrays':  # which only unpickling could read
        np.save(folder / 'probe.npy', np.array([{}, {}]), allow_pickle=True)
    with pytest.raises(ScanError, match=str(folder)) as raised:
        read_arrays(folder)
    assert '\n' not in str(raised.value)


def test_a_scratch_folder_goes_with_its_block(tmp_path: Path) -> None:
    with Scratch(1000, tmp_path) as scratch:
        write_arrays(scratch.path / 'scan', arrays_of_a_scan(), DESCRIPTION)
        assert scratch.path.parent == tmp_path and folders(tmp_path) == [scratch.path.name]
        assert scratch.path.stat().st_mode & 0o077 == 0, 'nobody else may read a scan'
    assert list(tmp_path.iterdir()) == []


def test_a_scratch_folder_goes_on_an_exception_too(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Scratch(1000, tmp_path) as scratch:
        write_arrays(scratch.path / 'scan', arrays_of_a_scan(), DESCRIPTION)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_two_jobs_at_once_have_a_folder_each(tmp_path: Path) -> None:
    with Scratch(1000, tmp_path) as one:
        with Scratch(1000, tmp_path) as other:
            assert one.path != other.path and len(folders(tmp_path)) == 2
        assert folders(tmp_path) == [one.path.name], 'the first is in use'
    assert list(tmp_path.iterdir()) == []


def test_too_little_space_is_told_before_anything_is_written(tmp_path: Path) -> None:
    needed = shutil.disk_usage(tmp_path).free + 5 * 2**40
    with pytest.raises(OutputError) as raised:
        Scratch(needed, tmp_path)
    message = str(raised.value)
    free = shutil.disk_usage(tmp_path).free / MIB
    assert f'{(needed + HEADROOM) / 2**30:,.1f} GiB' in message and 'execution.scratch_dir' in message
    told, unit = message.split(f'{tmp_path} has ')[1].split(' free')[0].replace(',', '').split()
    assert float(told) * {'MiB': 1, 'GiB': 1024}[unit] == pytest.approx(free, rel=0.2)
    assert list(tmp_path.iterdir()) == []


def test_the_headroom_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: Usage(0, 0, 100 * MIB))
    with Scratch(100 * MIB - HEADROOM, tmp_path):
        pass
    with pytest.raises(OutputError, match=r'101 MiB of scratch space .* has 100 MiB free'):
        Scratch(101 * MIB - HEADROOM, tmp_path)


def test_a_scratch_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r'absent is no folder.*execution.scratch_dir'):
        Scratch(1000, tmp_path / 'absent')


def test_without_a_choice_the_system_s_folder_with_enough_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder for temporary files unless it is full, or lies in memory while another does not."""
    free = {tmp_path: 10 * MIB + HEADROOM, Path('/var/tmp'): 20 * MIB + HEADROOM}
    monkeypatch.setattr(tempfile, 'gettempdir', lambda: str(tmp_path))
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: Usage(0, 0, free[folder]))
    assert Scratch(9 * MIB).parent == tmp_path
    assert Scratch(15 * MIB).parent == Path('/var/tmp')
    with pytest.raises(OutputError, match=rf'{tmp_path} has 74 MiB free, /var/tmp has 84 MiB free'):
        Scratch(25 * MIB)
    monkeypatch.setattr(scratch_files, '_lies_in_memory', lambda folder: folder == tmp_path)
    assert Scratch(9 * MIB).parent == Path('/var/tmp')


@pytest.mark.skipif(not Path('/proc/mounts').exists(), reason='the mounts are read on Linux only')
def test_a_file_system_in_memory_is_known() -> None:
    kinds = {fields[1]: fields[2] for line in Path('/proc/mounts').read_text().splitlines() if (fields := line.split())}
    for folder, kind in kinds.items():
        assert scratch_files._lies_in_memory(Path(folder)) == (kind in ('tmpfs', 'ramfs')) or Path(folder).is_symlink()


OWNER = """
import sys, time
from pathlib import Path
from ptychopinn_reconstructor.physics.simulation.simulate import simulate
from ptychopinn_reconstructor.worker.handover import Scratch
with Scratch(1000, Path(sys.argv[1])) as scratch:
    (scratch.path / 'diffraction.npy').write_bytes(bytes(100))
    print(scratch.path, flush=True)
    time.sleep(120)
"""


def start_owner(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that owns a scratch folder, and the folder."""
    command = [sys.executable, '-P', '-c', OWNER, str(parent)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_what_a_killed_owner_leaves_goes_at_the_next_start(tmp_path: Path) -> None:
    """While that of a living one stays."""
    living, used = start_owner(tmp_path)
    killed, left = start_owner(tmp_path)
    try:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert {used.name, left.name} == set(folders(tmp_path))
        with Scratch(1000, tmp_path) as mine:
            assert set(folders(tmp_path)) == {used.name, mine.path.name}
        assert (used / 'diffraction.npy').stat().st_size == 100
    finally:
        for process in (living, killed):
            process.kill()
            process.communicate()


def test_leftovers_go_before_the_space_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed job has left must not keep the next one from starting."""
    killed, left = start_owner(tmp_path)
    killed.kill()
    killed.communicate()
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: Usage(0, 0, 0 if left.exists() else HEADROOM))
    with Scratch(0, tmp_path) as mine:
        assert folders(tmp_path) == [mine.path.name]


def test_only_abandoned_folders_of_ours_are_leftovers(tmp_path: Path) -> None:
    young, old, locked_once, other = (tmp_path / name for name in (f'{PREFIX}young', f'{PREFIX}old', f'{PREFIX}x', 'y'))
    for folder in (young, old, locked_once, other):
        folder.mkdir()
    (locked_once / LOCK).touch()
    (other / LOCK).touch()
    then = time.time() - 2 * YOUNG
    os.utime(old, (then, then))
    file = tmp_path / f'{PREFIX}file'
    file.touch()
    with Scratch(1000, tmp_path):
        assert young.exists() and other.exists() and file.exists()
        assert not old.exists() and not locked_once.exists()


LIMITED = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from ptychopinn_reconstructor.errors import OutputError
from ptychopinn_reconstructor.physics.simulation.simulate import simulate
from ptychopinn_reconstructor.worker.handover import Scratch, write_arrays
resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))
try:
    with Scratch(1000, Path(sys.argv[1])) as scratch:
        write_arrays(scratch.path / 'scan', {'diffraction': np.ones((100, 32, 32))}, {})
except OutputError as error:
    print(error)
"""


def test_a_full_disk_is_a_sentence_with_the_reason(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: the write fails half-way."""
    assert resource.RLIM_INFINITY in resource.getrlimit(resource.RLIMIT_FSIZE)
    command = [sys.executable, '-P', '-c', LIMITED, str(tmp_path)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown.startswith(f'Cannot write the scan into the scratch folder {tmp_path}') and 'ScratchDir' in shown
    assert '(None)' not in shown and ('written' in shown or 'large' in shown), shown
    assert folders(tmp_path) == []


def test_a_handed_over_scan_is_mended_and_its_positions_come_back_whole(tmp_path: Path) -> None:
    """Frames that are left out keep the positions that they were given with."""
    scan = simulate(n=32, positions=64, step=5, photons=1e5, object='cells', seed=0)
    patterns, numbers = scan.diffraction.copy(), np.arange(64) * 3
    patterns[[5, 40]] = 0
    arrays = {'diffraction': patterns, 'positions': scan.positions, 'probe': scan.probe, 'pattern_indexes': numbers}
    write_arrays(tmp_path, arrays, {})
    handed = read_arrays(tmp_path)
    assert [notice.code for notice in handed.notices] == ['lost_frames'] and len(handed.scan) == 62
    whole = restore_positions(tmp_path, handed.scan, handed.scan.positions + 0.5)
    moved = np.ones(64, bool)
    moved[[5, 40]] = False
    assert np.array_equal(whole, scan.positions + 0.5 * moved[:, None])
    kept = read_arrays(tmp_path, as_is=True).scan
    assert len(kept) == 64 and np.array_equal(restore_positions(tmp_path, kept, kept.positions), scan.positions)


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> str:
        raise PermissionError(13, 'Permission denied')

    scratch = Scratch(1000, tmp_path)
    monkeypatch.setattr(tempfile, 'mkdtemp', refuse)
    expected = rf'Cannot write into the scratch folder {tmp_path} \(Permission denied\); set another ScratchDir'
    with pytest.raises(OutputError, match=expected), scratch:
        pass


def test_folders_of_another_user_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / f'{PREFIX}old'
    folder.mkdir()
    os.utime(folder, (0, 0))
    user = os.getuid()
    monkeypatch.setattr(os, 'getuid', lambda: user + 1)
    handover.remove_leftovers(tmp_path)
    assert folder.exists()
    monkeypatch.setattr(os, 'getuid', lambda: user)
    handover.remove_leftovers(tmp_path)
    assert not folder.exists()


@pytest.mark.parametrize(
    ('folder', 'in_memory'),
    [('/data/x', False), ('/data', False), ('/other', True), ('/data2', True), ('/ram/x', True)],
)
def test_the_innermost_mount_decides(folder: str, in_memory: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = 'tmpfs / tmpfs rw 0 0\n/dev/sda /data ext4 rw 0 0\nnone /ram ramfs rw 0 0\n'
    monkeypatch.setattr(Path, 'read_text', lambda path: mounts)
    assert scratch_files._lies_in_memory(Path(folder)) == in_memory


def test_where_mounts_are_not_told_no_folder_lies_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, 'read_text', refuse)
    assert scratch_files._lies_in_memory(Path('/dev/shm')) is False


def test_a_folder_of_nothing_is_a_full_disk_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(OutputError, match=r'Cannot write the scan into .*file/scan \(Not a directory\); set another'):
        write_arrays(tmp_path / 'file' / 'scan', arrays_of_a_scan(), DESCRIPTION)


def test_positions_without_numbers_of_patterns_come_back_as_refined(tmp_path: Path) -> None:
    arrays = arrays_of_a_scan()
    del arrays['pattern_indexes']
    write_arrays(tmp_path, arrays, DESCRIPTION)
    scan = read_arrays(tmp_path, as_is=True).scan
    refined = scan.positions[:5] + 1
    assert restore_positions(tmp_path, scan, refined) is refined


def test_nothing_is_pickled(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='allow_pickle'):
        write_arrays(tmp_path, {'diffraction': np.array([{}], object)}, {})


def test_a_scratch_folder_that_is_gone_already_is_no_error(tmp_path: Path) -> None:
    with Scratch(1000, tmp_path) as scratch:
        shutil.rmtree(scratch.path)
    lock = scratch._lock
    assert lock is not None and lock.closed


def test_a_leftover_that_goes_meanwhile_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two jobs that start at once look at the same one."""
    (tmp_path / f'{PREFIX}gone').mkdir()

    def vanish(folder: Path) -> bool:
        folder.rmdir()
        return folder.stat() is None

    monkeypatch.setattr(handover, '_is_abandoned', vanish)
    handover.remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []
