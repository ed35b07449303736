"""What each path answers, one module a resource."""
