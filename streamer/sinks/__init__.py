"""Other stores that follow the log."""
