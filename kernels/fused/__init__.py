"""Fused implementations in Triton, one file per operation. Importing a file needs triton; importing this package does not."""
