"""What the ONNX Runtime backend says of itself; no framework is imported."""

from ptychopinn_reconstructor.backend.description import BackendDescription

DESCRIPTION = BackendDescription(
    name='onnx',
    title='ONNX Runtime',
    requires=('onnxruntime',),
    install='ptychopinn-reconstructor[onnx]',
    backend='ptychopinn_reconstructor.backends.onnx_runtime.adapter:OnnxRuntimeBackend',
    architectures={'s2d_unet': 'ptychopinn_reconstructor.backends.onnx_runtime.s2d_unet:build_network'},
    capabilities=frozenset(),
)
