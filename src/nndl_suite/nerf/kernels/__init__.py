"""Compiled kernels of the radiance field, each with a float64 reference beside it."""
