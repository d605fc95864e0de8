"""PtychoPINN for Ptychodus: physics-informed neural reconstruction of ptychographic scans.

Importing this package loads numpy at most; frameworks, scipy, h5py and Qt are imported where they are used.
"""

from .errors import PtychoPINNError

__version__ = '0.1.0'
__all__ = ['PtychoPINNError', '__version__']
