"""What can be asked of a state beside the lists that it publishes, and the answers."""
