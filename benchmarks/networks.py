"""The network alone, in PyTorch and TensorFlow: as reconstruct calls it, and what the compilers make of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from timing import Reference, Row, Work, gemm_reference, gigaflops, paired, rate_row

from ptychopinn_reconstructor.backend import Network, find_missing_modules, load_backend
from ptychopinn_reconstructor.config import Config

BATCH = 64
STEP_BATCH = {64: 16, 128: 8}  # patterns of a training step
Calls = tuple[Work, Callable[[], Work]]  # a call, and what makes a compiled one, which its first run compiles


def network_input(n: int, batch: int) -> tuple[Any, Any]:
    """Random input of the network."""
    import torch

    generator = torch.Generator().manual_seed(0)
    root4 = torch.rand(batch, n, n, generator=generator)
    return root4, torch.randn(batch, 2, n // 2, n // 2, generator=generator)


def inference(n: int, quick: bool) -> Iterator[Row]:
    """The network alone, then in all backends as reconstruct calls it, in turn and with the same weights."""
    import torch

    from ptychopinn_reconstructor.backends.torch_lightning.s2d_unet import build_network

    repeats = 3 if quick else 9
    network, inputs = build_network(Config()).eval(), network_input(n, BATCH)
    with torch.inference_mode():
        work = gigaflops(lambda: network(*inputs))
        timed = paired(lambda: network(*inputs), gemm_reference(), repeats=repeats)
    yield rate_row(f'network, N = {n}, batch {BATCH}, {work / BATCH * 1e3:.0f} MFLOP a pattern', timed, BATCH, work)
    by_torch = Reference('PyTorch', predictions('torch', n), BATCH)
    for name, title in (('tensorflow', 'TensorFlow'), ('onnx', 'ONNX Runtime')):
        if find_missing_modules(name):
            yield Row(f'- {title}', 'not installed')
            continue
        both = paired(predictions(name, n), by_torch, repeats=repeats)
        value, beside = f'{both.seconds / BATCH * 1e3:.3f} ms/pattern', f'{both.unit_seconds * 1e3:.3f} ms/pattern'
        yield Row(f'- called by reconstruct, {title}', value, f'{both.ratio / BATCH:.2f}', f'PyTorch, {beside}')


def predictions(name: str, n: int) -> Work:
    """A call of a backend's network, as reconstruct calls it."""
    config = Config().merged({'model': {'N': n}})
    # Drawn by PyTorch for both: the first tensor of TensorFlow would settle its number of threads.
    network: Network = load_backend(name).network(config, load_backend('torch').draw_weights(config, 0), 'cpu')
    return partial(network.predict, *(part.numpy() for part in network_input(n, BATCH)))


def compiled(n: int, quick: bool) -> Iterator[Row]:
    """The network in inference and in training, as it is and compiled, by both frameworks; a unit is 1 GFLOP."""
    for training, batch in ((False, BATCH), (True, STEP_BATCH[n])):
        inputs = network_input(n, batch)
        calls = torch_calls(inputs, training)
        work, repeats = gigaflops(calls[0]), 3 if quick else 9
        what = f'{"forward and backward" if training else "inference"}, N = {n}, batch {batch}'
        yield from gain_rows(f'PyTorch: {what}', 'torch.compile', calls, batch, work, repeats)
        if find_missing_modules('tensorflow'):
            yield Row(f'TensorFlow: {what}', 'not installed')
        else:
            calls = tensorflow_calls(inputs, training)
            yield from gain_rows(f'TensorFlow: {what}', 'XLA (jit_compile)', calls, batch, work, repeats)


def torch_calls(inputs: tuple[Any, Any], training: bool) -> Calls:
    """The network of the PyTorch backend."""
    import torch

    from ptychopinn_reconstructor.backends.torch_lightning.s2d_unet import build_network

    network = build_network(Config()).train(training)

    def call(net: Any) -> None:
        with torch.inference_mode(not training):
            amplitude, phase = net(*inputs)
            if training:
                (amplitude.square().mean() + phase.square().mean()).backward()
                network.zero_grad()

    return partial(call, network), lambda: partial(call, torch.compile(network, dynamic=False))


def tensorflow_calls(inputs: tuple[Any, Any], training: bool) -> Calls:
    """The network of the TensorFlow backend."""
    import tensorflow as tf

    from ptychopinn_reconstructor.backends.tensorflow_keras.adapter import claim_runtime
    from ptychopinn_reconstructor.backends.tensorflow_keras.s2d_unet import build_network

    claim_runtime('cpu', 1, 1)
    network, tensors = build_network(Config()), [tf.constant(part.numpy()) for part in inputs]

    def call(*tensors: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=training) as tape:
            amplitude, phase = network(list(tensors), training=training)
            loss = tf.reduce_mean(tf.square(amplitude)) + tf.reduce_mean(tf.square(phase))
        return tape.gradient(loss, network.trainable_variables) if training else (amplitude, phase)

    def compiled_by(jit: bool) -> Work:
        return partial(tf.function(call, jit_compile=jit), *tensors)

    return compiled_by(False), partial(compiled_by, True)


def gain_rows(what: str, compiler: str, calls: Calls, batch: int, work: float, repeats: int) -> Iterator[Row]:
    """Both calls timed; the product compiles neither."""
    plain, compile_ = calls
    reference = gemm_reference()
    before = paired(plain, reference, repeats=repeats)
    yield rate_row(what, before, batch, work)
    start = sum(os.times()[:4]), time.perf_counter()
    try:
        fast = compile_()
        fast()
    except Exception as error:  # whatever a missing or broken compiler brings up
        yield Row(f'- by {compiler}', 'not available', '', type(error).__name__)
        return
    used, wall = sum(os.times()[:4]) - start[0], time.perf_counter() - start[1]
    after = paired(fast, reference, repeats=repeats)
    cost = f'{used:.0f} s CPU, {wall:.0f} s wall to compile'
    value = f'{after.seconds / batch * 1e3:.3f} ms/pattern'
    yield Row(f'- by {compiler}, {cost}', value, f'{after.ratio / before.ratio:.2f}', 'time without it')
