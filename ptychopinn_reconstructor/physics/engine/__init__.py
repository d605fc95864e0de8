"""The classical engine: iterative refinement of object, probe and positions."""
