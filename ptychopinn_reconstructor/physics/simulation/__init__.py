"""Simulated scans and procedural objects."""
