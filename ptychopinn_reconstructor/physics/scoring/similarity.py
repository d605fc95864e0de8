"""Structural similarity of two real images, on one scale and on several."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.float64]
K1, K2 = 0.01, 0.03
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # exponents of the five scales, finest first
GAUSSIAN_WINDOW, GAUSSIAN_SIGMA = 11, 1.5  # pixels
SMALLEST_IMAGE = GAUSSIAN_WINDOW  # pixels along one side at a scale: one window must fit


def ssim(image: Image, truth: Image, data_range: float) -> float:
    """Mean structural similarity of two real images (H, W), windows of 7 x 7 pixels that lie inside the image.

    Source: Wang et al., IEEE Trans. Image Process. 13, 600 (2004), equation 13 with K1 = 0.01, K2 = 0.03, uniform
    windows and sample covariances.
    """
    window, correction = 7, 49 / 48
    inner = (slice(window // 2, -(window // 2)),) * 2

    def mean(values: Image) -> Image:
        return np.asarray(ndimage.uniform_filter(values, window)[inner])

    mu_a, mu_b = mean(image), mean(truth)
    var_a, var_b = (correction * (mean(v * v) - m * m) for v, m in ((image, mu_a), (truth, mu_b)))
    covariance = correction * (mean(image * truth) - mu_a * mu_b)
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    similarity = (2 * mu_a * mu_b + c1) * (2 * covariance + c2) / ((mu_a**2 + mu_b**2 + c1) * (var_a + var_b + c2))
    return float(similarity.mean())


def count_scales(shape: tuple[int, ...]) -> int:
    """How many scales of MS-SSIM an image of `shape` has room for: 5 from 176 pixels along the shorter side on."""
    side, scales = min(shape), 0
    while side >= SMALLEST_IMAGE and scales < len(SCALE_WEIGHTS):
        side, scales = side // 2, scales + 1
    return scales


def ms_ssim(image: Image, truth: Image, data_range: float) -> float:
    """Multi-scale structural similarity of two real images (H, W), at least 11 pixels along the shorter side.

    The product over the scales of the mean contrast-structure term to the scale's weight, at the coarsest scale of the
    mean of luminance times contrast-structure; Gaussian windows of 11 x 11 pixels, 1.5 pixels standard deviation, that
    lie inside the image; from scale to scale means of 2 x 2 pixels. An image too small for all five scales has as many
    as `count_scales` says, their weights scaled to a sum of 1. A mean below 0 counts as 0. Source: Wang, Simoncelli,
    Bovik, Asilomar Conf. Signals, Systems & Computers (2003), equation 7, weights of section 3.2.
    """
    scales = count_scales(image.shape)
    weights = np.array(SCALE_WEIGHTS[:scales])
    if scales < len(SCALE_WEIGHTS):
        weights /= weights.sum()
    value = 1.0
    for scale, weight in enumerate(weights):
        if scale:
            image, truth = _halved(image), _halved(truth)
        luminance, structure = _terms(image, truth, data_range)
        term = luminance * structure if scale == scales - 1 else structure
        value *= max(float(term.mean()), 0.0) ** weight
    return float(value)


def _terms(a: Image, b: Image, data_range: float) -> tuple[Image, Image]:
    """The luminance and the contrast-structure term in each window."""
    inner = (slice(GAUSSIAN_WINDOW // 2, -(GAUSSIAN_WINDOW // 2)),) * 2

    def mean(values: Image) -> Image:
        return np.asarray(ndimage.gaussian_filter(values, GAUSSIAN_SIGMA, radius=GAUSSIAN_WINDOW // 2)[inner])

    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    mu_a, mu_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mu_a**2, mean(b * b) - mu_b**2
    covariance = mean(a * b) - mu_a * mu_b
    return (2 * mu_a * mu_b + c1) / (mu_a**2 + mu_b**2 + c1), (2 * covariance + c2) / (var_a + var_b + c2)


def _halved(image: Image) -> Image:
    """Means of 2 x 2 pixels; an odd last row or column is left out."""
    rows, cols = (size - size % 2 for size in image.shape)
    even = image[:rows, :cols]
    return np.asarray((even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4)
