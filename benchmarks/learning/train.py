"""Train the learned step: `python -m learning.train --work FOLDER [--out FILE]`, from a seed, and on from where it was.

First quick states alone, then mostly those of the engine, each scan drawn when its turn comes and used while it is
among the newest: the network sees each crop a few times only, and cannot learn any by heart. What it gains on a scan is
measured before it has been trained on it. The learning rate is constant until the last part.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from ptychopinn_reconstructor.physics.learned.shipped import FILE, write_network

from .first_scans import FIRST_SCANS
from .network import CHANNELS, Network, to_numpy
from .states import State, quick_states, scan_states

SEED = 0
STEPS, STEPS_A_SCAN = 3600, 25  # in all; for each scan beyond the first ones
QUICK_STEPS = 2000  # before the first scan counts
NEWEST = 500  # scans that are in use at a time
QUICK_POOL, CROPS_AN_OBJECT = 24, 48
QUICK_SHARE = 0.25  # of the crops, afterwards
LATER_SHARE, ENOUGH_LATER = 0.4, 20  # of the crops that are of scans beyond the first ones, once there are so many
COMPLETE_SHARE = 0.7  # of the engine's objects that are taken after all passes, not midway
BATCH, CROP = 8, 96
RATE, WARM_UP, FALLS = 1.2e-3, 100, (3000, 4000)  # FALLS: steps from the whole rate to none
STRENGTH = 0.7  # of the correction: what is best in `check.CHOSEN_ON` without losing more than .2 dB anywhere
SAVE_EVERY = 100  # steps
FLOOR = 0.03  # of the engine's square error: to gain more than 15 dB on an easy crop is worth nothing


@dataclass(eq=False)
class Pool:
    """States of scans by their numbers, in files, and of quick objects."""

    folder: Path
    scans: dict[int, list[State]] = field(default_factory=dict)
    quick: dict[int, list[State]] = field(default_factory=dict)
    drawing_seconds: float = 0.0

    def scan(self, number: int) -> list[State]:
        """The states of a scan, from its file where there is one."""
        if number not in self.scans:
            self.scans[number] = self._read_or_draw(number)
            self.scans.pop(number - NEWEST, None)
        return self.scans[number]

    def quick_object(self, number: int) -> list[State]:
        """The states of a quick object."""
        if number not in self.quick:
            self.quick[number] = quick_states(SEED, number)
            self.quick.pop(number - QUICK_POOL, None)
        return self.quick[number]

    def _read_or_draw(self, number: int) -> list[State]:
        paths = [self.folder / f'{number:05d}_{state}.npy' for state in range(2)]
        if paths[1].exists():
            return [np.load(path) for path in paths]
        begun = time.process_time()
        states = scan_states(SEED, number)
        for path, state in zip(paths, states, strict=False):
            np.save(path, state)
        self.drawing_seconds += time.process_time() - begun
        return states


def scans_by(step: int) -> int:
    """Scans that have been drawn by a step."""
    return 0 if step < QUICK_STEPS else FIRST_SCANS + (step - QUICK_STEPS) // STEPS_A_SCAN


def quick_by(step: int) -> int:
    """Quick objects that have been drawn by a step."""
    early, late = min(step, QUICK_STEPS), max(0, step - QUICK_STEPS)
    return 2 + int((early + QUICK_SHARE * late) * BATCH) // CROPS_AN_OBJECT


def draw_batch(pool: Pool, step: int) -> NDArray[np.float32]:
    """Crops (8, 13, 96, 96) of a step."""
    rng = np.random.default_rng([SEED, 5, step])
    return np.stack([augment(crop(_choose(pool, rng, step), rng), rng) for _ in range(BATCH)])


def _choose(pool: Pool, rng: Generator, step: int) -> State:
    scans, quick = scans_by(step), quick_by(step)
    if not scans or rng.random() < QUICK_SHARE:
        states = pool.quick_object(int(rng.integers(max(0, quick - QUICK_POOL + 1), quick)))
        return states[rng.integers(len(states))]
    later = scans >= FIRST_SCANS + ENOUGH_LATER and rng.random() < LATER_SHARE
    while True:
        states = pool.scan(int(rng.integers(max(FIRST_SCANS if later else 0, scans - NEWEST + 1), scans)))
        if len(states) == 2:
            return states[int(rng.random() < COMPLETE_SHARE)]


def crop(state: State, rng: Generator) -> State:
    """A part (13, 96, 96) of which at least a third counts."""
    height, width = state.shape[1:]
    if min(height, width) < CROP:
        margin = ((0, 0), (0, max(0, CROP - height)), (0, max(0, CROP - width)))
        padded = np.pad(state, margin, mode='edge')
        padded[10, height:], padded[10, :, width:] = 0, 0
        return crop(padded, rng)
    for _ in range(10):
        row, col = rng.integers(height - CROP + 1), rng.integers(width - CROP + 1)
        part = state[:, row : row + CROP, col : col + CROP]
        if part[10].mean(dtype=np.float32) > 0.35:
            break
    return part


def augment(state: State, rng: Generator) -> NDArray[np.float32]:
    """A state turned, mirrored, conjugated, its phase turned as a whole."""
    turned = np.rot90(state, int(rng.integers(4)), (1, 2))
    turned = turned[:, :, ::-1] if rng.random() < 0.5 else turned
    out = np.ascontiguousarray(turned, dtype=np.float32)
    turn, conjugate = np.exp(1j * rng.uniform(0, 2 * np.pi)), rng.random() < 0.5
    for real, imag in ((0, 1), (2, 3), (4, 5), (11, 12)):
        values = (out[real] + 1j * out[imag]) * turn
        out[real], out[imag] = values.real, -values.imag if conjugate else values.imag
    return out


def measure(network: Network, batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Loss of crops (b, 13, H, W), and the gain of complex error and amplitude over the engine's, in dB, (b,)."""
    with torch.autocast('cpu', torch.bfloat16):
        answer = network(batch[:, :CHANNELS].contiguous(memory_format=torch.channels_last))
    before, truth, weight = batch[:, :2], batch[:, 11:13], batch[:, 10:11]
    after = before + batch[:, 9:10] * answer.float()
    pairs = [((after - truth) ** 2, (before - truth) ** 2)]
    pairs.append(((_size(after) - _size(truth)) ** 2, (_size(before) - _size(truth)) ** 2))
    count = weight.sum((1, 2, 3)) + 1
    losses, gains = [], []
    for new, old in pairs:
        error, start = ((values * weight).sum((1, 2, 3)) / count for values in (new, old))
        losses.append(torch.log((error + FLOOR * start + 1e-7) / (start + 1e-7)))
        gains.append(10 * torch.log10((start + 1e-7) / (error.detach() + 1e-7)))
    return sum(losses, torch.zeros(())).mean() / 2, gains[0], gains[1]


def _size(values: Tensor) -> Tensor:
    return torch.sqrt(values[:, :1] ** 2 + values[:, 1:] ** 2 + 1e-6)


@dataclass(eq=False)
class Training:
    """A network, its mean over the last steps, the optimizer and how far it is."""

    work: Path
    network: Network = field(default_factory=Network)
    averaged: Network = field(default_factory=Network)
    step: int = 0
    seconds: float = 0.0
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged.load_state_dict(self.network.state_dict())
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=RATE, betas=(0.9, 0.99))
        self.pool = Pool(self.work)
        if (state := self.work / 'training.pt').exists():
            self._resume(torch.load(state, weights_only=True))

    def _resume(self, held: dict[str, Any]) -> None:
        self.network.load_state_dict(held['network'])
        self.averaged.load_state_dict(held['averaged'])
        self.optimizer.load_state_dict(held['optimizer'])
        self.step, self.seconds, self.log = held['step'], held['seconds'], held['log']
        self.pool.drawing_seconds = held['drawing_seconds']

    def save(self) -> None:
        """Keep everything, to go on later."""
        held = {name: getattr(self, name).state_dict() for name in ('network', 'averaged', 'optimizer')}
        numbers = {'step': self.step, 'seconds': self.seconds, 'log': self.log}
        torch.save({**held, **numbers, 'drawing_seconds': self.pool.drawing_seconds}, self.work / 'new.pt')
        (self.work / 'new.pt').replace(self.work / 'training.pt')

    def run(self) -> None:
        """All steps that are left."""
        gains, unseen = [], []
        begun = time.process_time()
        while self.step < STEPS:
            if scans_by(self.step) > scans_by(self.step - 1):
                unseen.append(self._try_unseen(scans_by(self.step) - 1))
            gains.append(self._advance())
            self.step += 1
            if self.step % SAVE_EVERY == 0 or self.step == STEPS:
                self.seconds, begun = self.seconds + time.process_time() - begun, time.process_time()
                told = [np.nanmean(values, axis=0).round(2).tolist() if values else None for values in (gains, unseen)]
                self.log.append(
                    f'step {self.step} scans {scans_by(self.step)} CPU-s {self.seconds:.0f}, drawing scans '
                    f'{self.pool.drawing_seconds:.0f}; gain of trained crops, of new scans (complex, amplitude): {told}'
                )
                print(self.log[-1], flush=True)
                gains, unseen = [], []
                self.save()

    def _advance(self) -> list[float]:
        left = (FALLS[1] - self.step) / (FALLS[1] - FALLS[0])
        for group in self.optimizer.param_groups:
            group['lr'] = RATE * min(1.0, (self.step + 1) / WARM_UP, left)
        loss, *gains = measure(self.network, torch.from_numpy(draw_batch(self.pool, self.step)))
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        kept = min(0.998, 1 - 1 / (self.step / 10 + 1))
        with torch.no_grad():
            for own, mean in zip(self.network.parameters(), self.averaged.parameters(), strict=True):
                mean.lerp_(own, 1 - kept)
        return [float(values.mean()) for values in gains]

    def _try_unseen(self, number: int) -> list[float]:
        """What the network gains on a scan that it has not been trained on."""
        states, rng = self.pool.scan(number), np.random.default_rng([SEED, 6, number])
        if len(states) < 2:
            return [np.nan, np.nan]
        crops = np.stack([crop(states[1], rng) for _ in range(2)]).astype(np.float32)
        with torch.no_grad():
            _, *gains = measure(self.averaged, torch.from_numpy(crops))
        return [float(values.mean()) for values in gains]


def main() -> None:
    """Train, or go on, and write the file of the package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--work', type=Path, required=True, help='folder of the scans and of the state')
    parser.add_argument('--out', type=Path, default=FILE)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    training = Training(given.work)
    training.run()
    shown = quick_states(SEED, 10**6)[1][:CHANNELS, :32, :32].astype(np.float32)
    described = {'strength': STRENGTH, 'seed': SEED, 'scans': scans_by(STEPS), 'steps': STEPS}
    write_network(given.out, to_numpy(training.averaged.state_dict()), shown, described)


if __name__ == '__main__':
    main()
