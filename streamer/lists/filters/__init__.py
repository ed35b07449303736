"""Filters in CEL: parsed, checked, and evaluated for all items at once."""
