"""Figures, and the one self-contained HTML page that shows what runs found."""
