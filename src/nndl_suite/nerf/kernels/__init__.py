"""Compiled kernels of the radiance field, each with a float64 reference beside it."""

import threading

ONE_AT_A_TIME = threading.RLock()
"""Held by whoever renders. The kernels of a picture let other Python threads run, so that a server can answer
meanwhile; they share threads of their own, and not every threading layer of numba bears two callers at once."""
