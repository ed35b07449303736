"""How numba is made to compile kernels in seconds, and how arrays are handed over to them."""
