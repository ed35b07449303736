"""From scores to what a subscriber gets."""
