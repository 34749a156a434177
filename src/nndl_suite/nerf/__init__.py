"""Experiment 3: from photos or a video of an object to a radiance field with held-out scores."""
