"""From scores to what a subscriber gets; which items may be listed at all is decided in tgn.candidate_pool."""
