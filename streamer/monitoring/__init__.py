"""Quality as it moves."""
