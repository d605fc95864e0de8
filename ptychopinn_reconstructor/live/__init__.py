"""Reconstruction while the scan is being taken."""
