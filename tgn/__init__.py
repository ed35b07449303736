"""The model: a temporal graph in arrays and a ranker that learns as it goes. No broker, clock or environment here."""
