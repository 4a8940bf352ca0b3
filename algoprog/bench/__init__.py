"""How fast things are here, beside what else there is: kernels one by one, and whole training steps."""
