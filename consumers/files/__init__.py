"""Files of interactions, items and users: every reader takes and refuses what the wire decoder would."""
