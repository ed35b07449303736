"""What models that learn apart tell one another."""
