"""Two backends on one scan, side by side: `compare` and what it is made of."""

from .compare import compare

__all__ = ['compare']
