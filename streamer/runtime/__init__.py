"""What any long process needs."""
