"""PyTorch's forward model, losses and assembly against the numpy oracle, and its gradients against differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from frameworks import BACKENDS, lazy, needs
from numpy.typing import NDArray
from physics_cases import PhysicsChecks

pytestmark = needs('torch')
torch = lazy('torch')


class TestTorchPhysics(PhysicsChecks):
    """The checks of every backend."""

    physics = lazy(f'{BACKENDS}.torch_lightning.physics')

    def tensor(self, array: NDArray[Any]) -> Any:
        return torch.from_numpy(np.array(array))

    def array(self, tensor: Any) -> NDArray[Any]:
        return np.asarray(tensor)

    def gradient(self, function: Callable[[Any], Any], value: NDArray[Any]) -> NDArray[Any]:
        leaf = self.tensor(value).requires_grad_()
        function(leaf).backward()
        return np.asarray(leaf.grad)
