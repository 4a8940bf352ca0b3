"""What the study published: its constants, points and results, each with where it was read."""
