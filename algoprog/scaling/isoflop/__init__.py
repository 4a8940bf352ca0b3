"""IsoFLOP slices: the best size at each budget."""
