"""PtychoPINN inside Ptychodus: the only place that names the host application.

`install()` makes the library known to a Ptychodus that is imported in this process; the wheel's plugin calls it by
itself, scripts with an editable install call it before they make a ModelCore.
"""

from __future__ import annotations

__all__ = ['install']


def install() -> None:
    """Add the library 'PtychoPINN' to Ptychodus; a host that does not fit is left alone, with one logged warning."""
    from .hook import install as hook

    hook()
