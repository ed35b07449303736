"""What came of lists: feedback joined to the lists that it quotes, counted exactly once."""
