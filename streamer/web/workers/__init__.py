"""The workers that answer questions: which there are, the connections to them, and what becomes of their answers."""
