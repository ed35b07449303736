"""One epoch as a function: ingest, admit, order; score, learn, observe; lists. No clock, no network."""
