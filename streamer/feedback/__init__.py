"""What lists bring: feedback joined, counted, and said on the topic of quality."""
