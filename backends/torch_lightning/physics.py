"""The forward model and the losses in PyTorch: the functions of physics/forward.py and stitching.py, same names.

Shapes: R regions of K patterns, `modes` incoherent modes, N detector pixels, n pixels of a patch, canvas (H, W)
of a region. Units as in physics/forward.py. Everything here is differentiable except where it says detached.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ptychopinn_reconstructor.backend.common import SATURATION, SATURATION_PULL
from ptychopinn_reconstructor.physics.smoothing import smoothing_matrix

EPSILON_COUNTS = 0.1
EPSILON_WEIGHT = 1e-3  # of the largest probe intensity: below it a canvas pixel tends to 1


def pull_back(y: Tensor) -> Tensor:
    """Outputs y unchanged, whose gradient draws what is saturated back to where the loss can move it (B47).

    Sigmoid and tanh have no slope there: a network that a bad step has sent there would stay for ever.
    """
    if y.requires_grad:
        excess = (y - y.clamp(-SATURATION, SATURATION)).clamp(-SATURATION, SATURATION).detach()
        pull = 2 * SATURATION_PULL / excess.numel() * excess
        y.register_hook(lambda gradient: gradient + pull)  # type: ignore[no-untyped-call]
    return y


def shift_ramp(fractions: Tensor, n_pixels: int) -> Tensor:
    """exp(-2 pi i k f): (..., 2) pixels to (..., n, n) complex."""
    angle = (
        -2
        * torch.pi
        * fractions[..., None]
        * torch.fft.fftfreq(n_pixels, device=fractions.device, dtype=fractions.dtype)
    )
    factor = torch.polar(torch.ones_like(angle), angle)  # (..., 2, n)
    ramp: Tensor = factor[..., 0, :, None] * factor[..., 1, None, :]
    return ramp


def fourier_shift(images: Tensor, fractions: Tensor) -> Tensor:
    """Images (..., n, n) shifted by +f (..., 2) pixels."""
    shifted: Tensor = torch.fft.ifft2(torch.fft.fft2(images) * shift_ramp(fractions, images.shape[-1]))
    return shifted


def window_index(corners: Tensor, size: int, width: int) -> Tensor:
    """Flat canvas index of the windows of `size` at corners (R, K, 2), region by region: (R, K, size, size)."""
    step = torch.arange(size, device=corners.device)
    rows, cols = corners[..., 0, None] + step, corners[..., 1, None] + step
    return rows[..., :, None] * width + cols[..., None, :]


def scatter(patches: Tensor, index: Tensor, canvas_pixels: int) -> Tensor:
    """Sum patches (R, K, n, n) on one canvas a region: (R, canvas_pixels)."""
    regions = patches.shape[0]
    offset = torch.arange(regions, device=index.device)[:, None, None, None] * canvas_pixels
    flat = patches.new_zeros(regions * canvas_pixels)
    return flat.index_add(0, (index + offset).reshape(-1), patches.reshape(-1)).view(regions, canvas_pixels)


def gather(canvas: Tensor, index: Tensor) -> Tensor:
    """Windows (R, K, N, N) of canvases (R, canvas_pixels): the adjoint of `scatter`."""
    regions = canvas.shape[0]
    offset = torch.arange(regions, device=index.device)[:, None, None, None] * canvas.shape[1]
    return canvas.reshape(-1).index_select(0, (index + offset).reshape(-1)).view(index.shape)


def synchronizing_phases(contributions: Tensor, index: Tensor, canvas_pixels: int) -> Tensor:
    """Unit factors (R, K) that align the global phases of a region's patches; detached.

    The leading eigenvector of the K x K matrix of overlaps, normalized by their magnitudes; its own phase, which no
    solver defines, is fixed so that the first patch keeps the phase that the network gave it.
    """
    with torch.no_grad():
        r, k, n, _ = contributions.shape
        placed = contributions.new_zeros(r * k, canvas_pixels)
        placed.scatter_(1, index.reshape(r * k, n * n), contributions.reshape(r * k, n * n))
        placed = placed.view(r, k, canvas_pixels)
        overlap = torch.einsum('rip,rjp->rij', placed, placed.conj())
        # A network that has diverged must end in a loss that is not finite, not in an eigenvalue solver's error.
        leading = torch.linalg.eigh(torch.nan_to_num(overlap, 0.0, 0.0, 0.0))[1][..., -1]  # (R, K)
        return torch.exp(-1j * (torch.angle(leading) - torch.angle(leading[:, :1])))


def assemble(
    patches: Tensor, probe: Tensor, shifted: Tensor, fractions: Tensor, index: Tensor, canvas_pixels: int
) -> Tensor:
    """Patches (R, K, n, n) in the probe's frame to canvases (R, canvas_pixels): sum w o / sum w, 1 where nothing is.

    `probe` (R, 1, modes, N, N) weighs each patch in its own frame, `shifted` (R, K, modes, N, N) on the canvas.
    """
    n = patches.shape[-1]
    weight = crop_support(power(probe), n)
    contributions = fourier_shift(weight * patches, fractions)
    if patches.shape[1] > 1:
        contributions = contributions * synchronizing_phases(contributions, index, canvas_pixels)[..., None, None]
    eps = EPSILON_WEIGHT * weight.amax(dim=(-2, -1))
    return (scatter(contributions, index, canvas_pixels) + eps) / (
        scatter(crop_support(power(shifted), n), index, canvas_pixels) + eps
    )


def power(probe: Tensor) -> Tensor:
    """Sum over modes of abs(P)^2: (..., modes, N, N) to (..., N, N)."""
    return (probe.real.square() + probe.imag.square()).sum(dim=-3)


def crop_support(images: Tensor, n: int) -> Tensor:
    """The central n x n of (..., N, N)."""
    low = (images.shape[-1] - n) // 2
    return images[..., low : low + n, low : low + n]


def shift_probe(probe: Tensor, fractions: Tensor) -> Tensor:
    """The probe at sub-pixel offsets f: (R, 1, modes, N, N) and (R, K, 2) to (R, K, modes, N, N)."""
    return fourier_shift(probe, fractions[:, :, None])


def illuminate(probe: Tensor, patch: Tensor) -> Tensor:
    """Exit wave: (R, K, modes, N, N) and (R, K, N, N) to (R, K, modes, N, N)."""
    return probe * patch[:, :, None]


def propagate(exit_wave: Tensor, kernel: Tensor | None = None) -> Tensor:
    """Far field, or with a kernel near field, orthonormal, the middle of the detector at [0, 0]."""
    far_field: Tensor = torch.fft.fft2(exit_wave, norm='ortho')
    return far_field if kernel is None else torch.fft.ifft2(far_field * kernel, norm='ortho')


def measure(far_field: Tensor) -> Tensor:
    """Intensity in counts, modes added, zero frequency at [N//2, N//2]: (R, K, N, N)."""
    intensity = (far_field.real.square() + far_field.imag.square()).sum(dim=2)
    centered: Tensor = torch.fft.fftshift(intensity, dim=(-2, -1))
    return centered


def detect(diffracted: Tensor, beam: Tensor, background: Tensor) -> Tensor:
    """Expected counts s M + b of intensities M (R, K, N, N), with s (R, K) and b (R, N, N) as in physics/engine."""
    return beam[:, :, None, None] * diffracted + background[:, None]


def poisson_loss(intensity: Tensor, counts: Tensor, good: Tensor) -> Tensor:
    """Mean Poisson negative log-likelihood per good pixel, less its value at intensity = counts; e = 0.1."""
    excess = (
        intensity
        - counts
        - (counts + EPSILON_COUNTS) * torch.log((intensity + EPSILON_COUNTS) / (counts + EPSILON_COUNTS))
    )
    return (excess * good).sum() / good.sum()


def amplitude_loss(intensity: Tensor, counts: Tensor, good: Tensor) -> Tensor:
    """Mean absolute difference of the diffraction amplitudes, sqrt(counts), per good pixel."""
    difference = (torch.sqrt(intensity + 1e-12) - torch.sqrt(counts)).abs()
    return (difference * good).sum() / good.sum()


def smooth_patches(patches: Tensor, sigma: float) -> Tensor:
    """Patches (b, n, n) smoothed by a Gaussian of `sigma` pixels; as they are where it is 0."""
    if not sigma:
        return patches
    matrix = torch.from_numpy(smoothing_matrix(patches.shape[-1], sigma)).to(patches.device, patches.dtype)
    return matrix @ patches @ matrix.T


def total_variation(patches: Tensor, weight: Tensor) -> Tensor:
    """Mean difference of patches (b, n, n) to the next pixel below and to the right, weighted by w (b, n, n)."""
    below, right = (_magnitude(patches.diff(dim=dim)) for dim in (-2, -1))
    total = (weight[:, :-1] * below).sum(dim=(-2, -1)) + (weight[..., :-1] * right).sum(dim=(-2, -1))
    return (total / weight.sum(dim=(-2, -1))).mean()


def object_error(patches: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute error of patches (b, n, n) after removing each one's global phase, weighted by w (b, n, n)."""
    error = _magnitude(align_phase(patches, labels, weight) - labels)
    return ((weight * error).sum(dim=(-2, -1)) / weight.sum(dim=(-2, -1))).mean()


def exit_wave_loss(patches: Tensor, labels: Tensor, probe: Tensor) -> Tensor:
    """Error of patches (b, n, n) against labels, weighted by abs(P)^2, after removing each patch's global phase."""
    weight = crop_support(power(probe), patches.shape[-1])
    error = align_phase(patches, labels, weight) - labels
    return ((weight * _square(error)).sum(dim=(-2, -1)) / weight.sum(dim=(-2, -1))).mean()


def far_field_loss(patches: Tensor, labels: Tensor, probe: Tensor, counts: Tensor) -> Tensor:
    """Error of the complex far field within the support, each pixel weighted by 1/(counts + 1); mean per pixel."""
    n = patches.shape[-1]
    inset = (probe.shape[-1] - n) // 2
    error = align_phase(patches, labels, crop_support(power(probe), n)) - labels
    wave = torch.nn.functional.pad(crop_support(probe, n) * error[:, None], (inset,) * 4)
    return (measure(propagate(wave[:, None]))[:, 0] / (counts + 1)).mean()


def align_phase(patches: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Patches times the unit factor that brings each nearest to its label; the factor is detached."""
    inner = (weight * labels * patches.conj()).sum(dim=(-2, -1), keepdim=True).detach()
    return patches * torch.exp(1j * torch.angle(inner))


def _magnitude(values: Tensor) -> Tensor:
    """abs(values), whose gradient is finite at 0."""
    return torch.sqrt(_square(values) + 1e-12)


def _square(values: Tensor) -> Tensor:
    return values.real.square() + values.imag.square()
