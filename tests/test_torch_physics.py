"""PyTorch's forward model, losses and assembly against the numpy oracle, and its gradients against differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ptychopinn_reconstructor.physics import forward, geometry, scaling, stitching

torch = pytest.importorskip('torch', reason='PyTorch is not installed')
physics = pytest.importorskip('ptychopinn_reconstructor.backends.torch_lightning.physics')

K, N = 5, 32


def complex_array(rng: np.random.Generator, *shape: int) -> NDArray[np.complex128]:
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


class Case:
    """A region of K patches under a probe of some modes, in double precision."""

    def __init__(self, modes: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:N, :N] - (N - 1) / 2
        envelope = np.exp(-(x**2 + y**2) / (2 * 4.0**2))
        self.probe = 30 * envelope * complex_array(rng, modes, N, N)
        self.patches = np.exp(0.3 * complex_array(rng, K, N // 2, N // 2))
        positions = rng.uniform(0, 12, size=(K, 2))
        self.layout = geometry.layout(positions, N)
        self.counts = rng.poisson(20.0, size=(K, N, N)).astype(float)
        self.good = rng.uniform(size=(N, N)) > 0.1

    def tensors(self) -> tuple[Any, Any, Any, Any]:
        """Probe (1, 1, modes, N, N), fractions (1, K, 2), corners (1, K, 2), width of the canvas."""
        probe, fractions, corners = (
            torch.from_numpy(a)[None] for a in (self.probe[None], self.layout.fractions, self.layout.corners)
        )
        return probe, fractions, corners, self.layout.shape

    def canvas(self, patches: Any, probe: Any) -> Any:
        """The region's canvas by PyTorch, flat."""
        _, fractions, corners, (height, width) = self.tensors()
        index = physics.window_index(corners + N // 4, N // 2, width)
        shifted = physics.shift_probe(probe, fractions)
        return physics.assemble(patches, probe, shifted, fractions, index, height * width)

    def intensity(self, patches: Any, probe: Any) -> Any:
        """Predicted patterns (1, K, N, N) by PyTorch."""
        _, fractions, corners, (_, width) = self.tensors()
        windows = physics.gather(self.canvas(patches, probe), physics.window_index(corners, N, width))
        shifted = physics.shift_probe(probe, fractions)
        return physics.measure(physics.propagate(physics.illuminate(shifted, windows)))


def direct_assembly(case: Case, common: complex = 1.0) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """The canvas written down from method.md items 3 to 5 and the factors that synchronize, in double precision.

    `common` is a global factor on the synchronized patches: an eigenvector's own phase is free.
    """
    weight = scaling.crop_support((np.abs(case.probe) ** 2).sum(axis=0))
    u = geometry.fourier_shift(weight * case.patches, case.layout.fractions)
    shifted = forward.shift_probe(case.probe, case.layout.fractions)
    corners = case.layout.corners
    overlap = np.array(
        [[np.conj(stitching.overlap(u[i], u[j], corners[j] - corners[i])) for j in range(K)] for i in range(K)]
    )
    factors = np.exp(-1j * np.angle(np.linalg.eigh(overlap)[1][:, -1]))
    total = np.full(case.layout.shape, 1e-3 * weight.max(), dtype=complex)
    norm = total.copy()
    for i in range(K):
        window = geometry.patch_slice(corners[i], N // 2, N // 4)
        total[window] += common * factors[i] * u[i]
        norm[window] += scaling.crop_support((np.abs(shifted[i]) ** 2).sum(axis=0))
    return total / norm, factors


@pytest.mark.parametrize('modes', [1, 3])
def test_forward_model_equals_the_oracle_in_single_precision(modes: int) -> None:
    """Issue: the forward model equals the numpy oracle to 1e-5 relative in float32."""
    case = Case(modes)
    rng = np.random.default_rng(1)
    canvas = np.exp(0.3 * complex_array(rng, *case.layout.shape))
    windows = geometry.gather_patches(canvas, case.layout.corners, N)
    expected = forward.diffract(case.probe, windows, case.layout.fractions)
    probe, fractions, corners, (_, width) = case.tensors()
    flat = torch.from_numpy(canvas).to(torch.complex64).reshape(1, -1)
    shifted = physics.shift_probe(probe.to(torch.complex64), fractions.float())
    found = physics.measure(
        physics.propagate(physics.illuminate(shifted, physics.gather(flat, physics.window_index(corners, N, width))))
    )
    assert np.abs(found[0].numpy() - expected).max() <= 1e-5 * expected.max()


@pytest.mark.parametrize('modes', [1, 3])
def test_canvas_equals_a_direct_numpy_assembly(modes: int) -> None:
    case = Case(modes)
    probe, fractions, corners, (height, width) = case.tensors()
    index = physics.window_index(corners + N // 4, N // 2, width)
    patches = torch.from_numpy(case.patches)[None]
    u = physics.fourier_shift(physics.crop_support(physics.power(probe)) * patches, fractions)
    found_factors = physics.synchronizing_phases(u, index, height * width)[0].numpy()
    ratio = found_factors / direct_assembly(case)[1]
    assert np.abs(ratio - ratio[0]).max() < 1e-6  # numpy shifts by ramps in single precision
    expected, _ = direct_assembly(case, common=ratio[0])
    found = case.canvas(patches, probe).reshape(height, width).numpy()
    assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max()


def test_global_phases_of_patches_do_not_change_the_canvas() -> None:
    """Synchronization: turning single patches changes nothing beyond one common phase."""
    case = Case(1)
    probe = case.tensors()[0]
    turned = case.patches * np.exp(1j * np.arange(K))[:, None, None]
    one, two = (case.canvas(torch.from_numpy(p)[None], probe).numpy().ravel() for p in (case.patches, turned))
    lit = np.abs(one) > 0.5
    assert np.abs(np.abs(one) - np.abs(two))[lit].mean() < 2e-3


@pytest.mark.parametrize('name', ['poisson_loss', 'amplitude_loss'])
def test_losses_equal_the_oracle(name: str) -> None:
    case = Case(1)
    rng = np.random.default_rng(2)
    predicted = rng.gamma(5.0, 4.0, size=case.counts.shape)
    expected = getattr(forward, name)(predicted, case.counts, case.good)
    good = torch.from_numpy(case.good.astype(float)).expand(1, K, N, N)
    found = getattr(physics, name)(torch.from_numpy(predicted)[None], torch.from_numpy(case.counts)[None], good)
    assert float(found) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize('what', ['patches', 'probe'])
def test_gradients_equal_finite_differences(what: str) -> None:
    """The gradient of the likelihood through assembly, forward model and loss, in double precision.

    The synchronizing phases are detached by design; with patches in phase already they are stationary to first order
    in the amplitude, so the test holds them by taking one patch a canvas.
    """
    case = Case(2, seed=3)
    values = torch.from_numpy(case.patches)[None], case.tensors()[0]
    good = torch.from_numpy(case.good.astype(float)).expand(1, K, N, N)
    counts = torch.from_numpy(case.counts)[None]

    def loss(patches: Any, probe: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(physics, 'synchronizing_phases', lambda u, *_: torch.ones(u.shape[:2], dtype=u.dtype))
            return physics.poisson_loss(case.intensity(patches, probe), counts, good)

    number = 0 if what == 'patches' else 1
    leaf = values[number].clone().requires_grad_()
    arguments = [leaf if i == number else value for i, value in enumerate(values)]
    loss(*arguments).backward()
    rng = np.random.default_rng(4)
    step = 1e-6 * float(leaf.detach().abs().max())
    for _ in range(5):
        direction = torch.from_numpy(complex_array(rng, *leaf.shape))
        with torch.no_grad():
            up, down = (
                loss(*[leaf + sign * step * direction if i == number else v for i, v in enumerate(values)])
                for sign in (1, -1)
            )
        slope = float((leaf.grad.conj() * direction).real.sum())
        assert slope == pytest.approx(float(up - down) / (2 * step), rel=1e-5, abs=1e-8)


def test_scatter_is_the_adjoint_of_gather() -> None:
    case = Case(1)
    _, _, corners, (height, width) = case.tensors()
    rng = np.random.default_rng(5)
    index = physics.window_index(corners, N, width)
    canvas, patches = (torch.from_numpy(complex_array(rng, *s)) for s in ((1, height * width), (1, K, N, N)))
    left = torch.vdot(physics.gather(canvas, index).ravel(), patches.ravel())
    right = torch.vdot(canvas.ravel(), physics.scatter(patches, index, height * width).ravel())
    assert complex(left) == pytest.approx(complex(right), rel=1e-12)


def test_supervised_losses_ignore_the_global_phase_of_a_patch() -> None:
    case = Case(1)
    probe = torch.from_numpy(case.probe)[None].expand(K, 1, N, N)
    labels = torch.from_numpy(case.patches)
    turned = labels * torch.exp(1j * torch.arange(K, dtype=torch.float64))[:, None, None]
    counts = torch.from_numpy(case.counts)
    assert float(physics.exit_wave_loss(turned, labels, probe)) < 1e-20
    assert float(physics.far_field_loss(turned, labels, probe, counts)) < 1e-20
    weight = scaling.crop_support((np.abs(case.probe) ** 2).sum(axis=0))
    expected = 0.01 * np.average(
        np.abs(case.patches) ** 2, axis=(1, 2), weights=np.broadcast_to(weight, case.patches.shape)
    )
    assert float(physics.exit_wave_loss(1.1 * turned, labels, probe)) == pytest.approx(float(expected.mean()), rel=1e-9)
