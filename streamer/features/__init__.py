"""From records to the numbers that a model reads; what the ranker makes of them is in tgn.features."""
