"""Installed as `ptychodus/plugins/ptychopinn_reconstructor.py`, where Ptychodus looks for plugins when it starts.

An exception here would keep Ptychodus from starting: nothing is imported before the `try`.
"""


def register_plugins(registry: object) -> None:
    """Add PtychoPINN to the Ptychodus of this process; whatever goes wrong is one logged warning."""
    try:
        from ptychopinn_reconstructor.host import install

        install()
    except Exception as error:
        import logging

        message = 'PtychoPINN is left out of Ptychodus: %s: %s'
        logging.getLogger('ptychopinn_reconstructor').warning(message, type(error).__name__, error)
