"""The command `ptychodus-ptychopinn`: Ptychodus with PtychoPINN, where its own search for plugins does not find us.

That search looks into one directory: an editable install and a host of another site directory are not seen by it.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

from . import install

NO_HOST = 2  # the exit code of a wrong usage, as for the other commands


def main() -> int:
    """Exit code of Ptychodus, started with this command's arguments; 2 if it is not installed."""
    spec = find_spec('ptychodus')
    if spec is None or spec.origin is None:  # without a host our own plugin leaves an empty namespace of that name
        sys.stderr.write("Ptychodus is not installed in this environment: pip install 'ptychodus[gui]>=1.6'\n")
        return NO_HOST
    install()
    from ptychodus.__main__ import main as ptychodus

    return int(ptychodus())
