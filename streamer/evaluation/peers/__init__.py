"""Recommenders of others that need no package of their own, to be measured beside ours."""
