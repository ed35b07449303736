"""A recorded stream through the same engine, and what lists are worth."""
