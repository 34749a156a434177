"""The training engine: one loop, its checkpoints, its randomness, and the folder that a run leaves behind."""
