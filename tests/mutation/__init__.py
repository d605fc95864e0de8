"""Mutation testing: small changes of the sources, and whether the tests see them."""
