"""Experiments: evaluate, compare and study run our commands in child processes, score and draw their results."""
