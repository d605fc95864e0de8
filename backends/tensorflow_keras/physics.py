"""The forward model and the losses in TensorFlow: the functions of physics/forward.py and stitching.py, same names.

Shapes: R regions of K patterns, `modes` incoherent modes, N detector pixels, n pixels of a patch, canvas (H, W)
of a region; N and n must be static, all else may be dynamic. Units as in physics/forward.py. Everything here is
differentiable except where it says detached.
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi

import numpy as np
import tensorflow as tf

from ptychopinn_reconstructor.backend.common import SATURATION, SATURATION_PULL
from ptychopinn_reconstructor.physics.smoothing import smoothing_matrix

EPSILON_COUNTS = 0.1
EPSILON_WEIGHT = 1e-3  # of the largest probe intensity: below it a canvas pixel tends to 1


@tf.custom_gradient
def pull_back(y: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """Outputs y unchanged, whose gradient draws what is saturated back to where the loss can move it (B47).

    Sigmoid and tanh have no slope there: a network that a bad step has sent there would stay for ever.
    """

    def differentiate(gradient: tf.Tensor) -> tf.Tensor:
        excess = tf.clip_by_value(y - tf.clip_by_value(y, -SATURATION, SATURATION), -SATURATION, SATURATION)
        return gradient + 2 * SATURATION_PULL / tf.cast(tf.size(y), y.dtype) * excess

    return tf.identity(y), differentiate


def polar(amplitude: tf.Tensor, phase: tf.Tensor) -> tf.Tensor:
    """amplitude exp(i phase)."""
    return tf.complex(amplitude * tf.cos(phase), amplitude * tf.sin(phase))


def unit_factor(phase: tf.Tensor) -> tf.Tensor:
    """exp(i phase)."""
    return tf.complex(tf.cos(phase), tf.sin(phase))


def as_complex(values: tf.Tensor) -> tf.Tensor:
    """Real values as complex ones of the same precision."""
    return tf.complex(values, tf.zeros_like(values))


def shift_ramp(fractions: tf.Tensor, n_pixels: int) -> tf.Tensor:
    """exp(-2 pi i k f): (..., 2) pixels to (..., n, n) complex."""
    frequency = tf.constant(np.fft.fftfreq(n_pixels), dtype=fractions.dtype)
    factor = unit_factor(-2 * pi * fractions[..., None] * frequency)  # (..., 2, n)
    return factor[..., 0, :, None] * factor[..., 1, None, :]


def fourier_shift(images: tf.Tensor, fractions: tf.Tensor) -> tf.Tensor:
    """Images (..., n, n) shifted by +f (..., 2) pixels."""
    return tf.signal.ifft2d(tf.signal.fft2d(images) * shift_ramp(fractions, images.shape[-1]))


def window_index(corners: tf.Tensor, size: int, width: int | tf.Tensor) -> tf.Tensor:
    """Flat canvas index of the windows of `size` at corners (R, K, 2), region by region: (R, K, size, size)."""
    step = tf.range(size, dtype=corners.dtype)
    rows, cols = corners[..., 0, None] + step, corners[..., 1, None] + step
    return rows[..., :, None] * tf.cast(width, corners.dtype) + cols[..., None, :]


def _flat_index(index: tf.Tensor, canvas_pixels: int | tf.Tensor) -> tf.Tensor:
    """Index (R, K, size, size) into the canvases of all regions, one after the other."""
    first = tf.range(tf.shape(index, index.dtype)[0]) * tf.cast(canvas_pixels, index.dtype)
    return index + first[:, None, None, None]


def scatter(patches: tf.Tensor, index: tf.Tensor, canvas_pixels: int | tf.Tensor) -> tf.Tensor:
    """Sum patches (R, K, n, n) on one canvas a region: (R, canvas_pixels)."""

    @tf.custom_gradient  # the adjoint is a plain gather; TensorFlow's own guards against negative indices
    def total(values: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        shape = tf.shape(index, index.dtype)[0], tf.cast(canvas_pixels, index.dtype)
        flat = tf.math.unsorted_segment_sum(values, _flat_index(index, canvas_pixels), shape[0] * shape[1])
        return tf.reshape(flat, shape), lambda upstream: gather(upstream, index)

    return total(patches)


def gather(canvas: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """Windows (R, K, N, N) of canvases (R, canvas_pixels): the adjoint of `scatter`."""

    @tf.custom_gradient  # TensorFlow's own goes through IndexedSlices
    def windows(values: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        pixels = tf.shape(values)[1]
        found = tf.gather(tf.reshape(values, (-1,)), _flat_index(index, pixels))
        return found, lambda upstream: scatter(upstream, index, pixels)

    return windows(canvas)


def synchronizing_phases(contributions: tf.Tensor, index: tf.Tensor, canvas_pixels: int | tf.Tensor) -> tf.Tensor:
    """Unit factors (R, K) that align the global phases of a region's patches to its first one; detached.

    The leading eigenvector of the K x K matrix of overlaps, normalized by their magnitudes.
    """
    shape = tf.shape(contributions)
    r, k, n = shape[0], shape[1], contributions.shape[-1]
    placed = scatter(
        tf.reshape(tf.stop_gradient(contributions), (r * k, 1, n, n)),
        tf.reshape(index, (r * k, 1, n, n)),
        canvas_pixels,
    )
    placed = tf.reshape(placed, (r, k, -1))
    overlap = tf.matmul(placed, placed, adjoint_b=True)
    # A network that has diverged must end in a loss that is not finite, not in an eigenvalue solver's error.
    overlap = tf.where(tf.math.is_finite(tf.abs(overlap)), overlap, tf.zeros_like(overlap))
    phase = tf.math.angle(tf.linalg.eigh(overlap)[1][..., -1])  # (R, K)
    return tf.stop_gradient(unit_factor(phase[:, :1] - phase))


def assemble(
    patches: tf.Tensor,
    probe: tf.Tensor,
    shifted: tf.Tensor,
    fractions: tf.Tensor,
    index: tf.Tensor,
    canvas_pixels: int | tf.Tensor,
) -> tf.Tensor:
    """Patches (R, K, n, n) in the probe's frame to canvases (R, canvas_pixels): sum w o / sum w, 1 where nothing is.

    `probe` (R, 1, modes, N, N) weighs each patch in its own frame, `shifted` (R, K, modes, N, N) on the canvas.
    """
    n = patches.shape[-1]
    weight = crop_support(power(probe), n)
    contributions = fourier_shift(as_complex(weight) * patches, fractions)
    if patches.shape[1] != 1:
        factors = synchronizing_phases(contributions, index, canvas_pixels)
        contributions = contributions * factors[..., None, None]
    eps = EPSILON_WEIGHT * tf.reduce_max(weight, (-2, -1))
    norm = scatter(crop_support(power(shifted), n), index, canvas_pixels) + eps
    return (scatter(contributions, index, canvas_pixels) + as_complex(eps)) / as_complex(norm)


def power(probe: tf.Tensor) -> tf.Tensor:
    """Sum over modes of abs(P)^2: (..., modes, N, N) to (..., N, N)."""
    return tf.reduce_sum(_square(probe), -3)


def crop_support(images: tf.Tensor, n: int) -> tf.Tensor:
    """The central n x n of (..., N, N)."""
    low = (images.shape[-1] - n) // 2
    return images[..., low : low + n, low : low + n]


def shift_probe(probe: tf.Tensor, fractions: tf.Tensor) -> tf.Tensor:
    """The probe at sub-pixel offsets f: (R, 1, modes, N, N) and (R, K, 2) to (R, K, modes, N, N)."""
    return fourier_shift(probe, fractions[:, :, None])


def illuminate(probe: tf.Tensor, patch: tf.Tensor) -> tf.Tensor:
    """Exit wave: (R, K, modes, N, N) and (R, K, N, N) to (R, K, modes, N, N)."""
    return probe * patch[:, :, None]


def propagate(exit_wave: tf.Tensor) -> tf.Tensor:
    """Far field, orthonormal, zero frequency at [0, 0]."""
    return tf.signal.fft2d(exit_wave) / tf.cast(exit_wave.shape[-1], exit_wave.dtype)


def measure(far_field: tf.Tensor) -> tf.Tensor:
    """Intensity in counts, modes added, zero frequency at [N//2, N//2]: (R, K, N, N)."""
    return tf.signal.fftshift(tf.reduce_sum(_square(far_field), 2), (-2, -1))


def detect(diffracted: tf.Tensor, beam: tf.Tensor, background: tf.Tensor) -> tf.Tensor:
    """Expected counts s M + b of intensities M (R, K, N, N), with s (R, K) and b (R, N, N) as in physics/engine."""
    return beam[:, :, None, None] * diffracted + background[:, None]


def poisson_loss(intensity: tf.Tensor, counts: tf.Tensor, good: tf.Tensor) -> tf.Tensor:
    """Mean Poisson negative log-likelihood per good pixel, less its value at intensity = counts; e = 0.1."""
    ratio = (intensity + EPSILON_COUNTS) / (counts + EPSILON_COUNTS)
    excess = intensity - counts - (counts + EPSILON_COUNTS) * tf.math.log(ratio)
    return tf.reduce_sum(excess * good) / tf.reduce_sum(good)


def amplitude_loss(intensity: tf.Tensor, counts: tf.Tensor, good: tf.Tensor) -> tf.Tensor:
    """Mean absolute difference of the diffraction amplitudes, sqrt(counts), per good pixel."""
    difference = tf.abs(tf.sqrt(intensity + 1e-12) - tf.sqrt(counts))
    return tf.reduce_sum(difference * good) / tf.reduce_sum(good)


def smooth_patches(patches: tf.Tensor, sigma: float) -> tf.Tensor:
    """Patches (b, n, n) smoothed by a Gaussian of `sigma` pixels; as they are where it is 0."""
    if not sigma:
        return patches
    matrix = tf.cast(smoothing_matrix(patches.shape[-1], sigma), patches.dtype)
    return matrix @ patches @ tf.transpose(matrix)


def total_variation(patches: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Mean difference of patches (b, n, n) to the next pixel below and to the right, weighted by w (b, n, n)."""
    below = _magnitude(patches[:, 1:] - patches[:, :-1])
    right = _magnitude(patches[..., 1:] - patches[..., :-1])
    total = tf.reduce_sum(weight[:, :-1] * below, (-2, -1)) + tf.reduce_sum(weight[..., :-1] * right, (-2, -1))
    return tf.reduce_mean(total / tf.reduce_sum(weight, (-2, -1)))


def object_error(patches: tf.Tensor, labels: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Mean absolute error of patches (b, n, n) after removing each one's global phase, weighted by w (b, n, n)."""
    error = _magnitude(align_phase(patches, labels, weight) - labels)
    return tf.reduce_mean(tf.reduce_sum(weight * error, (-2, -1)) / tf.reduce_sum(weight, (-2, -1)))


def exit_wave_loss(patches: tf.Tensor, labels: tf.Tensor, probe: tf.Tensor) -> tf.Tensor:
    """Error of patches (b, n, n) against labels, weighted by abs(P)^2, after removing each patch's global phase."""
    weight = crop_support(power(probe), patches.shape[-1])
    error = align_phase(patches, labels, weight) - labels
    mean = tf.reduce_sum(weight * _square(error), (-2, -1)) / tf.reduce_sum(weight, (-2, -1))
    return tf.reduce_mean(mean)


def far_field_loss(patches: tf.Tensor, labels: tf.Tensor, probe: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    """Error of the complex far field within the support, each pixel weighted by 1/(counts + 1); mean per pixel."""
    n = patches.shape[-1]
    inset = (probe.shape[-1] - n) // 2
    error = align_phase(patches, labels, crop_support(power(probe), n)) - labels
    wave = tf.pad(crop_support(probe, n) * error[:, None], [[0, 0], [0, 0], [inset, inset], [inset, inset]])
    return tf.reduce_mean(measure(propagate(wave[:, None]))[:, 0] / (counts + 1))


def align_phase(patches: tf.Tensor, labels: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Patches times the unit factor that brings each nearest to its label; the factor is detached."""
    inner = tf.reduce_sum(as_complex(weight) * labels * tf.math.conj(patches), (-2, -1), keepdims=True)
    return patches * tf.stop_gradient(unit_factor(tf.math.angle(inner)))


def _magnitude(values: tf.Tensor) -> tf.Tensor:
    """abs(values), whose gradient is finite at 0."""
    return tf.sqrt(_square(values) + 1e-12)


def _square(values: tf.Tensor) -> tf.Tensor:
    """abs(values)^2."""
    return tf.square(tf.math.real(values)) + tf.square(tf.math.imag(values))
