"""Everything that a restart needs, as one value."""
