"""What a learning-rate search found, and what it left on the table."""
