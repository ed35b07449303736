"""The operator's tools: what is wrong, what is on disk, what the log says of it."""
