"""With this folder on PYTHONPATH a process, and its children, import one module as the mutant PTYCHOPINN_MUTANT names.

Its value: the module's name, its file and the mutant's number, parted by spaces.
"""

from __future__ import annotations

import os
import sys

if 'PTYCHOPINN_MUTANT' in os.environ:
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    try:
        from mutation.importing import import_mutant
    finally:
        del sys.path[-1]
    import_mutant(os.environ['PTYCHOPINN_MUTANT'])
