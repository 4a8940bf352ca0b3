"""How many runs and decades are needed, and where to put them."""
