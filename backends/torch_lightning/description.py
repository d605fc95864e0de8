"""What the PyTorch backend says of itself; no framework is imported."""

from ptychopinn_reconstructor.backend.description import BackendDescription

DESCRIPTION = BackendDescription(
    name='torch',
    title='PyTorch',
    requires=('torch', 'lightning'),
    install='ptychopinn-reconstructor[torch]',
    backend='ptychopinn_reconstructor.backends.torch_lightning.adapter:TorchBackend',
    architectures={'s2d_unet': 'ptychopinn_reconstructor.backends.torch_lightning.s2d_unet:build_network'},
)
