"""Versions of embeddings that are trained in batch."""
