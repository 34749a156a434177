"""The page's colours: one set on a light ground, one on a dark one, under the same names."""

import matplotlib

PALETTE = (
    "#2b6cb8",
    "#b8500f",
    "#1f7a4d",
    "#7d4bb8",
    "#a8324f",
    "#0d7680",
    "#7a5c00",
    "#a83a88",
    "#56606b",
    "#48730f",
)
"""Of lines and dots on the light ground; on the dark one they stand at 3 : 1 or more too, should styles be lost."""

DARK_PALETTE = (
    "#6ea8ea",
    "#f0955a",
    "#5cc78c",
    "#bd97ec",
    "#f0839b",
    "#4fc4cf",
    "#d9b23c",
    "#e78fd0",
    "#a9b3bf",
    "#9cc95c",
)
"""The same on the dark ground."""

LIGHT_GROUND = {
    "ground": "#ffffff",
    "panel": "#f3f5f7",
    "ink": "#1d2126",
    "soft": "#545d67",
    "line": "#d3d8dd",
    "edge": "#7b8590",
    "link": "#1f5fae",
}
"""What is not data, by its name in the style sheet; `edge` outlines what can be operated."""

DARK_GROUND = {
    "ground": "#14171a",
    "panel": "#1c2024",
    "ink": "#e6e8ea",
    "soft": "#a9b2bb",
    "line": "#363d44",
    "edge": "#7f8a95",
    "link": "#86b7f0",
}

ERROR_COLOURS = "inferno"
"""matplotlib's map for pictures of errors: perceptually even, from black to light yellow."""


def css_colour(place: int) -> str:
    """A colour of the palette as the style sheet knows it; a drawing outside the page gets the light one."""
    return f"var(--c{place % len(PALETTE)}, {PALETTE[place % len(PALETTE)]})"


def css_gradient(colours: str) -> str:
    """The stops of one of matplotlib's maps, for a `linear-gradient` of CSS."""
    stops = [matplotlib.colormaps[colours](place / 8, bytes=True)[:3] for place in range(9)]
    return ", ".join(f"rgb({red}, {green}, {blue})" for red, green, blue in stops)
