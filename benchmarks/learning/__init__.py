"""The learned step: how it is trained, and what it gains (docs/explanation/learning.md)."""
