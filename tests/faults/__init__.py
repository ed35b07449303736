"""Crashes, on purpose: a worker's process ends at a named effect, or whenever a signal finds it."""
