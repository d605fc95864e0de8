"""What this backend says of itself; no framework is imported (B1)."""

from ptychopinn_reconstructor.backend import BackendDescription, Capability

DESCRIPTION = BackendDescription(
    name='plain',
    title='Plain PyTorch',
    requires=('torch',),
    install='plain-torch',
    backend='plain_torch.backend:PlainTorch',
    architectures={'s2d_unet': 'plain_torch.backend:UNet'},
    capabilities=frozenset({Capability.TRAINING, Capability.RESUMING, Capability.LABELS, Capability.PROBE}),
)
