"""Which stage of progress contributed how much."""
