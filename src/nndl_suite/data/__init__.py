"""Image sets by name, their splits and batches, and the built-in demo input."""
