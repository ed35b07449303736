"""What the view keeps in memory of the stream, beside lists and titles."""
