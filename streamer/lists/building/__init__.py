"""Steps from a ranking to a list: arrays in, arrays out; no clock, and no chance but keyed hashes."""
