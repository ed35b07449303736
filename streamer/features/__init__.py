"""From records to the numbers that a model reads."""
