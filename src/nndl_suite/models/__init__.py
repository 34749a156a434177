"""Backbones and stems shared by the representation and comparison experiments."""
