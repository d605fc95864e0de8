"""A learned step on the canvas: a small network that sees the object and what the patterns say of it."""
