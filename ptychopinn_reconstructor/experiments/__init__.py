"""Runs of our own commands in processes of their own, scored and drawn."""
