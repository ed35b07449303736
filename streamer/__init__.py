"""The runtime: wires the log to the model, owns state, time and settings."""
