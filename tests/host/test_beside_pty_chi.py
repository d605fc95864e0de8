"""Pty-Chi and PtychoPINN after each other in one session: ours train, infer and refine on what Pty-Chi has made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from host_sessions import PINN, session, small_case
from ptychodus.api.product import Product

if find_spec('ptychi') is None:
    pytest.skip('Pty-Chi is not installed: `make test-pty-chi` runs these', allow_module_level=True)

STAND_INS = Path(__file__).parents[1] / 'beside_pty_chi'
PTY_CHI = 'pty-chi_lsqml'
pytestmark = pytest.mark.slow


@dataclass
class Session:
    """Products of Pty-Chi, of a training, an inference and a refinement of ours, and what was logged with each."""

    scan: Product
    pty_chi: Product
    inferred: Product
    refined: Product
    logs: dict[str, str]


@contextmanager
def stand_ins() -> Iterator[None]:
    """Stand-ins for the host and the processes of Pty-Chi, which take over its path; ours do not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(STAND_INS)
        yield


@pytest.fixture(scope='module')
def beside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """Pty-Chi reconstructs a scan in a few epochs on the CPU, and ours goes on from there."""
    folder = small_case().write(tmp_path_factory.mktemp('pty-chi'))
    empty = tmp_path_factory.mktemp('empty')
    settings = {'PtyChi.NumEpochs': 4, 'PtyChi.UseDevices': False, 'PtychoPINNPlugin.RefinePasses': 2}
    with stand_ins(), session(**settings) as host:
        logs: dict[str, str] = {}

        def run(name: str, work: Any) -> Any:
            done = work()
            logs[name] = '\n'.join(host.log())
            return done

        start = host.open(folder)
        made = run('pty-chi', lambda: start.reconstruct_local(algorithm=PTY_CHI, block=True))
        run('train', lambda: made.train_reconstructor_local(empty, empty / 'out', algorithm=PINN, block=True))
        inferred = run('infer', lambda: made.reconstruct_local(algorithm=PINN, block=True))
        host.set(**{'PtychoPINNPlugin.StartFromObject': True})
        refined = run('refine', lambda: made.reconstruct_local(algorithm=PINN, block=True))
        scan, pty_chi, by_network, by_engine = (each.get_product() for each in (start, made, inferred, refined))
        yield Session(scan, pty_chi, by_network, by_engine, logs)


def test_pty_chi_runs_in_the_session(beside: Session) -> None:
    """It writes weights of its probe's modes for every position, all alike."""
    weights = beside.pty_chi.probes.get_opr_weights_or_none()
    assert weights is not None and len(weights) == 81 and np.ptp(weights, axis=0).max() == 0
    losses = [loss.value for loss in beside.pty_chi.losses]
    assert len(losses) == 4 and losses[-1] < 0.01 * losses[0]


@pytest.mark.parametrize('job', ['train', 'infer', 'refine'])
def test_its_probe_is_not_taken_for_one_that_varies_but_for_normalized(beside: Session, job: str) -> None:
    log = beside.logs[job]
    assert 'varies from position to position' not in log
    assert 'is from Pty-Chi, which normalizes probe and object: the amplitude' in log
    assert '[ERROR]' not in log and 'differs from the one the model was trained with' not in log


def test_ours_go_on_from_its_product(beside: Session) -> None:
    """On its grid, with an object; the refinement begins where Pty-Chi has ended."""
    given = beside.pty_chi.object_.get_array()[0]
    for found in (beside.inferred, beside.refined):
        values = found.object_.get_array()[0]
        assert values.shape == given.shape and np.isfinite(values).all() and np.ptp(np.angle(values)) > 0.1
    inside = tuple(slice(size // 4, -(size // 4)) for size in given.shape)
    one, other = given[inside], beside.refined.object_.get_array()[0][inside]
    assert abs(np.vdot(one, other)) / (np.linalg.norm(one) * np.linalg.norm(other)) > 0.95
