"""Follow a training by its events and stop it after a number of epochs: how a program of yours would embed it.

Run it in an empty folder: python follow_a_training.py [epochs]
"""

import sys
from pathlib import Path

from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.events import Epoch, Event
from ptychopinn_reconstructor.io.curves import write_losses
from ptychopinn_reconstructor.physics.simulation.simulate import simulate
from ptychopinn_reconstructor.training.train import train

wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 4
seen: list[float] = []


def follow(event: Event) -> None:
    """Print a line an epoch."""
    if isinstance(event, Epoch) and event.train_loss is not None:
        seen.append(event.train_loss)
        print(f'epoch {event.epoch}: loss {event.train_loss:.3f} after {event.cpu_seconds:.1f} CPU s')


scan = simulate(n=32, positions=100, step=5.0, seed=0)
config = Config().merged({'training': {'nepochs': 4 * wanted, 'batch_size': 16}})
trained = train([scan], config, Path('followed'), emit=follow, should_stop=lambda: len(seen) >= wanted)
picture = write_losses('losses.png', {'followed': [(number, loss, None) for number, loss in enumerate(seen, 1)]})
print(f'stopped early: {trained.trained.interrupted}; best epoch so far: {trained.model}, losses: {picture}')
