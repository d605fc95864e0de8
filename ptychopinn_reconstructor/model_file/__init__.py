"""The self-describing model: written, opened, tested, and what it was trained for."""
