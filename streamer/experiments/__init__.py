"""Experiments: what is compared on which surface, and what came of it."""
