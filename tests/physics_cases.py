"""What every backend's differentiable physics must do, written once: `PhysicsChecks`, run per framework by a subclass.

The oracle is numpy: physics/forward.py for the forward model and the losses, `direct_assembly` for the canvas.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ptychopinn_reconstructor.physics import forward, geometry, scaling, smoothing
from ptychopinn_reconstructor.physics.stitching import stitch as stitching

K, N = 5, 32


def complex_array(rng: np.random.Generator, *shape: int) -> NDArray[np.complex128]:
    """Normally distributed real and imaginary parts."""
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


class Case:
    """A region of K patches of n pixels under a probe of some modes, in double precision."""

    def __init__(self, modes: int, seed: int = 0, n: int = N // 2) -> None:
        self.n, self.inset = n, (N - n) // 2
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:N, :N] - (N - 1) / 2
        envelope = np.exp(-(x**2 + y**2) / (2 * 4.0**2))
        self.probe = 30 * envelope * complex_array(rng, modes, N, N)
        self.patches = np.exp(0.3 * complex_array(rng, K, n, n))
        positions = rng.uniform(0, 12, size=(K, 2))
        self.layout = geometry.layout(positions, N)
        self.counts = rng.poisson(20.0, size=(K, N, N)).astype(float)
        self.good = rng.uniform(size=(N, N)) > 0.1

    @property
    def weight(self) -> NDArray[np.float64]:
        """Sum over modes of abs(P)^2 on the support, (n, n)."""
        return scaling.crop_support((np.abs(self.probe) ** 2).sum(axis=0), self.n)


def direct_factors(case: Case, u: NDArray[Any]) -> NDArray[np.complex128]:
    """The factors (K,) that synchronize contributions u: the first patch keeps its phase."""
    corners = case.layout.corners
    pairs = np.stack(np.meshgrid(np.arange(K), np.arange(K), indexing='ij'), axis=-1).reshape(-1, 2)
    overlap = stitching.overlaps(u, corners, pairs).conj().reshape(K, K)
    leading = np.linalg.eigh(overlap)[1][:, -1]
    factors: NDArray[np.complex128] = np.exp(-1j * (np.angle(leading) - np.angle(leading[0])))
    return factors


def direct_assembly(case: Case) -> NDArray[np.complex128]:
    """The canvas written down from its definition in docs/method.md."""
    u = geometry.fourier_shift(case.weight * case.patches, case.layout.fractions)
    shifted = forward.shift_probe(case.probe, case.layout.fractions)
    factors = direct_factors(case, u)
    total = np.full(case.layout.shape, 1e-3 * case.weight.max(), dtype=complex)
    norm = total.copy()
    for i in range(K):
        window = geometry.patch_slice(case.layout.corners[i], case.n, case.inset)
        total[window] += factors[i] * u[i]
        norm[window] += scaling.crop_support((np.abs(shifted[i]) ** 2).sum(axis=0), case.n)
    canvas: NDArray[np.complex128] = total / norm
    return canvas


class PhysicsChecks:
    """A subclass names the backend's `physics` and says how arrays become tensors and back."""

    physics: Any

    def tensor(self, array: NDArray[Any]) -> Any:
        """A tensor of the same type and shape."""
        raise NotImplementedError

    def array(self, tensor: Any) -> NDArray[Any]:
        """A tensor's values."""
        raise NotImplementedError

    def gradient(self, function: Callable[[Any], Any], value: NDArray[Any]) -> NDArray[Any]:
        """G with d function = Re sum conj(G) d value."""
        raise NotImplementedError

    def region(self, case: Case) -> tuple[Any, Any, Any]:
        """Probe (1, 1, modes, N, N), fractions and corners (1, K, 2)."""
        probe, fractions, corners = case.probe[None, None], case.layout.fractions[None], case.layout.corners[None]
        return self.tensor(probe), self.tensor(fractions), self.tensor(corners)

    def canvas(self, case: Case, patches: Any, probe: Any) -> Any:
        """The region's canvas, flat: (1, height * width)."""
        _, fractions, corners = self.region(case)
        height, width = case.layout.shape
        index = self.physics.window_index(corners + case.inset, case.n, width)
        shifted = self.physics.shift_probe(probe, fractions)
        return self.physics.assemble(patches, probe, shifted, fractions, index, height * width)

    def intensity(self, case: Case, canvas: Any, probe: Any) -> Any:
        """Predicted patterns (1, K, N, N)."""
        physics = self.physics
        _, fractions, corners = self.region(case)
        windows = physics.gather(canvas, physics.window_index(corners, N, case.layout.shape[1]))
        return physics.measure(physics.propagate(physics.illuminate(physics.shift_probe(probe, fractions), windows)))

    @pytest.mark.parametrize('modes', [1, 3])
    def test_forward_model_equals_the_oracle_in_single_precision(self, modes: int) -> None:
        """B9: the forward model equals the numpy oracle to 1e-5 relative in float32."""
        case = Case(modes)
        canvas = np.exp(0.3 * complex_array(np.random.default_rng(1), *case.layout.shape)).astype(np.complex64)
        windows = geometry.gather_patches(canvas.astype(complex), case.layout.corners, N)
        expected = forward.diffract(case.probe, windows, case.layout.fractions)
        case.probe = case.probe.astype(np.complex64)
        case.layout = geometry.Layout(
            case.layout.corners, case.layout.fractions.astype(np.float32), case.layout.origin, case.layout.shape
        )
        probe = self.region(case)[0]
        found = self.array(self.intensity(case, self.tensor(canvas.reshape(1, -1)), probe))[0]
        assert found.dtype == np.float32
        assert np.abs(found - expected).max() <= 1e-5 * expected.max()

    @pytest.mark.parametrize('n', [N // 2, 3 * N // 4, N])
    @pytest.mark.parametrize('modes', [1, 3])
    def test_canvas_equals_a_direct_numpy_assembly(self, modes: int, n: int) -> None:
        """B26: synchronized and assembled as docs/method.md says; numpy shifts by ramps in single precision."""
        case = Case(modes, n=n)
        expected = direct_assembly(case)
        found = self.array(self.canvas(case, self.tensor(case.patches[None]), self.region(case)[0]))
        assert np.abs(found.reshape(case.layout.shape) - expected).max() < 1e-6 * np.abs(expected).max()

    def test_synchronizing_phases_equal_those_of_a_numpy_eigensolver(self) -> None:
        """The first patch keeps its phase, the others follow; independent of what solver found the eigenvector."""
        case = Case(1)
        case.patches = case.patches * np.exp(1j * np.arange(K))[:, None, None]
        u = geometry.fourier_shift(case.weight * case.patches, case.layout.fractions)
        _, _, corners = self.region(case)
        height, width = case.layout.shape
        index = self.physics.window_index(corners + case.inset, case.n, width)
        found = self.array(self.physics.synchronizing_phases(self.tensor(u[None]), index, height * width))
        assert np.abs(found[0] - direct_factors(case, u)).max() < 1e-9

    def test_phases_of_a_diverged_network_end_in_no_solver_error(self) -> None:
        case = Case(1)
        u = np.full((1, K, N // 2, N // 2), np.nan + 0j)
        index = self.physics.window_index(self.region(case)[2], N // 2, case.layout.shape[1])
        found = self.physics.synchronizing_phases(self.tensor(u), index, int(np.prod(case.layout.shape)))
        assert np.abs(self.array(found)) == pytest.approx(np.ones((1, K)))

    def test_global_phases_of_patches_do_not_change_the_canvas(self) -> None:
        """Synchronization: turning single patches changes nothing beyond one common phase."""
        case = Case(1)
        probe = self.region(case)[0]
        turned = case.patches * np.exp(1j * np.arange(K))[:, None, None]
        one, two = (
            self.array(self.canvas(case, self.tensor(patches[None]), probe)).ravel()
            for patches in (case.patches, turned)
        )
        lit = np.abs(one) > 0.5
        assert np.abs(np.abs(one) - np.abs(two))[lit].mean() < 2e-3

    @pytest.mark.parametrize('name', ['poisson_loss', 'amplitude_loss'])
    def test_losses_equal_the_oracle(self, name: str) -> None:
        case = Case(1)
        predicted = np.random.default_rng(2).gamma(5.0, 4.0, size=case.counts.shape)
        expected = getattr(forward, name)(predicted, case.counts, case.good)
        good = np.broadcast_to(case.good.astype(float), case.counts.shape)
        found = getattr(self.physics, name)(*(self.tensor(values[None]) for values in (predicted, case.counts, good)))
        assert float(found) == pytest.approx(expected, rel=1e-7)

    @pytest.mark.parametrize('name', ['total_variation', 'object_error'])
    def test_losses_of_the_object_equal_the_oracle(self, name: str) -> None:
        """S6, S7: values, and gradients by finite differences."""
        case = Case(1)
        weight = np.repeat(case.weight[None], K, axis=0)
        labels = () if name == 'total_variation' else (case.patches * np.exp(0.1j) + 0.1,)
        expected = getattr(forward, name)(case.patches, *labels, weight)
        rest = [self.tensor(array) for array in (*labels, weight)]

        def total(leaf: Any) -> Any:
            return getattr(self.physics, name)(leaf, *rest)

        assert float(total(self.tensor(case.patches))) == pytest.approx(expected, rel=1e-7)
        if name == 'total_variation':  # the phase that aligns a patch is detached
            self.check_gradient(total, case.patches)

    def test_smoothing_equals_the_oracle(self) -> None:
        """S5: the same matrix; a sigma of 0 changes nothing."""
        patches = Case(1).patches
        found = self.array(self.physics.smooth_patches(self.tensor(patches), 1.5))
        assert np.abs(found - smoothing.smooth_patches(patches, 1.5)).max() < 1e-12
        assert np.array_equal(self.array(self.physics.smooth_patches(self.tensor(patches), 0.0)), patches)

    @pytest.mark.parametrize('what', ['patches', 'probe'])
    @pytest.mark.parametrize('loss', ['poisson_loss', 'amplitude_loss'])
    def test_gradients_equal_finite_differences(self, what: str, loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """B9: the gradient through assembly, forward model and loss equals finite differences in float64.

        The synchronizing phases are detached by design and here held.
        """
        case = Case(2, seed=3)
        values = {'patches': case.patches[None], 'probe': case.probe[None, None]}
        good, counts = (self.tensor(np.broadcast_to(a, (1, K, N, N)).astype(float)) for a in (case.good, case.counts))
        ones = self.tensor(np.ones((1, K), dtype=complex))
        monkeypatch.setattr(f'{self.physics.__name__}.synchronizing_phases', lambda *_: ones)

        def total(leaf: Any) -> Any:
            arguments = {name: self.tensor(value) for name, value in values.items()} | {what: leaf}
            canvas = self.canvas(case, **arguments)
            return getattr(self.physics, loss)(self.intensity(case, canvas, arguments['probe']), counts, good)

        self.check_gradient(total, values[what])

    @pytest.mark.parametrize('name', ['exit_wave_loss', 'far_field_loss'])
    def test_supervised_gradients_equal_finite_differences(self, name: str) -> None:
        """The phase that aligns a patch is detached, which changes nothing where the error is stationary in it."""
        case = Case(2, seed=5)
        probe, labels = self.tensor(np.repeat(case.probe[None], K, axis=0)), self.tensor(case.patches)
        more = () if name == 'exit_wave_loss' else (self.tensor(case.counts),)
        start = case.patches * 1.1  # aligned: a first-order change of the factor would only turn the error

        def total(leaf: Any) -> Any:
            return getattr(self.physics, name)(leaf, labels, probe, *more)

        self.check_gradient(total, start, keep_phase_of=case)

    def test_the_gradient_of_saturated_outputs_pulls_them_back(self) -> None:
        """As if a tenth of the mean square of what exceeds 8 were in the loss, straight from 16 on; outputs stay."""
        y = np.linspace(-20, 20, 40).reshape(2, 2, 2, 5)
        y[1, 1, 1, 4] = 1e30

        def loss(leaf: Any) -> Any:
            return (self.physics.pull_back(leaf) ** 2)[0, 0, 0, 0] + leaf[0, 0, 0, 0] * 0

        found = self.gradient(loss, y)
        beyond = np.clip(y - np.clip(y, -8, 8), -8, 8)
        expected = 2 * 0.1 / y.size * beyond
        expected[0, 0, 0, 0] += 2 * y[0, 0, 0, 0]
        assert np.count_nonzero(beyond) == 24 and np.allclose(found, expected, rtol=1e-12)
        assert np.array_equal(self.array(self.physics.pull_back(self.tensor(y))), y)

    def check_gradient(
        self, total: Callable[[Any], Any], value: NDArray[Any], keep_phase_of: Case | None = None
    ) -> None:
        """Compare with central differences along five random directions, that turn no patch where asked so."""
        gradient = self.gradient(total, value)
        rng = np.random.default_rng(4)
        step = 1e-6 * float(np.abs(value).max())
        for _ in range(5):
            direction = complex_array(rng, *value.shape)
            if keep_phase_of is not None:
                conjugate = keep_phase_of.weight * keep_phase_of.patches.conj()
                turn = (conjugate * direction).imag.sum((-2, -1)) / (conjugate * value).real.sum((-2, -1))
                direction = direction - 1j * turn[:, None, None] * value
            up, down = (float(total(self.tensor(value + sign * step * direction))) for sign in (1, -1))
            slope = float((gradient.conj() * direction).real.sum())
            assert slope == pytest.approx((up - down) / (2 * step), rel=1e-5, abs=1e-8)

    def test_scatter_is_the_adjoint_of_gather(self) -> None:
        case = Case(1)
        height, width = case.layout.shape
        rng = np.random.default_rng(5)
        index = self.physics.window_index(self.region(case)[2], N, width)
        canvas, patches = (complex_array(rng, *shape) for shape in ((1, height * width), (1, K, N, N)))
        gathered = self.array(self.physics.gather(self.tensor(canvas), index))
        scattered = self.array(self.physics.scatter(self.tensor(patches), index, height * width))
        assert np.vdot(gathered, patches) == pytest.approx(np.vdot(canvas, scattered), rel=1e-12)

    def test_supervised_losses_ignore_the_global_phase_of_a_patch(self) -> None:
        case = Case(1)
        probe, labels, counts = (
            self.tensor(a) for a in (np.repeat(case.probe[None], K, axis=0), case.patches, case.counts)
        )
        turned = case.patches * np.exp(1j * np.arange(K))[:, None, None]
        assert float(self.physics.exit_wave_loss(self.tensor(turned), labels, probe)) < 1e-20
        assert float(self.physics.far_field_loss(self.tensor(turned), labels, probe, counts)) < 1e-20
        weights = np.broadcast_to(case.weight, case.patches.shape)
        expected = 0.01 * np.average(np.abs(case.patches) ** 2, axis=(1, 2), weights=weights).mean()
        found = self.physics.exit_wave_loss(self.tensor(1.1 * turned), labels, probe)
        assert float(found) == pytest.approx(float(expected), rel=1e-9)

    @pytest.mark.parametrize('n', [N // 2, 3 * N // 4, N])
    def test_far_field_loss_equals_the_oracle(self, n: int) -> None:
        """B27: the error of the far field weighted by 1 / (counts + 1), the error cropped to the support."""
        case = Case(2, n=n)
        labels = case.patches * 0.9
        probe = self.tensor(np.repeat(case.probe[None], K, axis=0))
        error = np.zeros((K, 2, N, N), dtype=complex)
        support = slice(case.inset, case.inset + case.n)
        error[:, :, support, support] = scaling.crop_support(case.probe, case.n) * (case.patches - labels)[:, None]
        expected = (forward.measure(forward.propagate(error)) / (case.counts + 1)).mean()
        patches, labels, counts = (self.tensor(a) for a in (case.patches, labels, case.counts))
        assert float(self.physics.far_field_loss(patches, labels, probe, counts)) == pytest.approx(expected, rel=1e-7)
