"""Maps of images by their features, drawn in few bytes, and the nearest neighbours of some."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from markupsafe import Markup

from nndl_suite.report import words
from nndl_suite.report.colours import PALETTE, css_colour
from nndl_suite.report.pictures import Key, Picture, as_number, as_object
from nndl_suite.training.files import Json, read_json

_MOST_GROUPS = 2 * len(PALETTE)
"""Dots and crosses in each colour: as many as an eye can keep apart, more or less."""
_SIDE = 360  # the longer side of a map, in its own units


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """An image near another one."""

    image: str
    label: str
    """Empty where the images have none."""
    similarity: float
    """The cosine of the two features."""
    agrees: bool
    """Whether the labels are the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """An image, and those nearest to it."""

    image: str
    label: str
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """What a run keeps of them."""

    how: str
    queries: tuple[Query, ...]

    @property
    def agreement(self) -> float | None:
        """The share of neighbours that have their query's label; None without labels."""
        shown = [neighbour for query in self.queries for neighbour in query.neighbours if query.label]
        return sum(neighbour.agrees for neighbour in shown) / len(shown) if shown else None


def map_pictures(
    folder: Path, class_names: Sequence[str], superclasses: Mapping[str, Sequence[int]]
) -> Iterable[Picture]:
    """Of every map in a folder's `embedding.json`; none where there is no such file.

    Args:
        folder: A run.
        class_names: By label; empty where the images have none.
        superclasses: Which labels each holds, where there are any.
    """
    file = folder / "embedding.json"
    if not file.is_file():
        return
    content = read_json(file)
    labels = [int(as_number(label)) for label in cast(list[Json], content["labels"])]
    names, group_of = _groups(class_names, superclasses)
    of = str(content.get("of", "test images"))
    key = [
        Key(colour=place % len(PALETTE), cross=place >= len(PALETTE), label=name) for place, name in enumerate(names)
    ]
    for one in (as_object(node) for node in cast(list[Json], content["maps"])):
        places = [(as_number(x), as_number(y)) for x, y in cast(list[list[Json]], one["xy"])]
        groups = [group_of[label] for label in labels] if labels else [0] * len(places)
        explained = sum(as_number(share) for share in cast(list[Json], one["explained"]))
        coloured = ", coloured by class" if len(names) > 1 else ""
        yield Picture(
            svg=Markup(_scatter(places, groups)),  # noqa: S704 - numbers and the palette's names
            alt=f"{len(places)} {of} in the plane of {one['name']}'s features{coloured}.",
            caption=f"{one['name']}: {len(places)} {of} in the plane of the {content['method']} "
            f"({words.percent(explained)} of their variance). Nothing was chosen by it.",
            key=tuple(key) if len(names) > 1 else (),
        )


def read_neighbours(folder: Path) -> Neighbours | None:
    """What a run left in `neighbours.json`; None where there is no such file."""
    file = folder / "neighbours.json"
    if not file.is_file():
        return None
    content = read_json(file)
    queries = [as_object(query) for query in cast(list[Json], content["queries"])]
    return Neighbours(how=str(content["how"]), queries=tuple(map(_query, queries)))


def _query(query: Mapping[str, Json]) -> Query:
    label = str(query["label"] or "")
    found = [as_object(one) for one in cast(list[Json], query["neighbours"])]
    return Query(
        image=_picture(query["image"]),
        label=label,
        neighbours=tuple(
            Neighbour(
                image=_picture(one["image"]),
                label=str(one["label"] or ""),
                similarity=as_number(one["similarity"]),
                agrees=one["label"] == query["label"],
            )
            for one in found
        ),
    )


def _picture(node: Json) -> str:
    """A picture that holds itself: a page must not be made to load something."""
    if not isinstance(node, str) or not node.startswith("data:image/"):
        raise ValueError("neighbours.json wants pictures as data:image/… URIs")
    return node


def _groups(class_names: Sequence[str], superclasses: Mapping[str, Sequence[int]]) -> tuple[list[str], dict[int, int]]:
    """Names of what gets a look of its own, and which of them each label belongs to."""
    if superclasses:
        return list(superclasses), {label: i for i, labels in enumerate(superclasses.values()) for label in labels}
    if len(class_names) <= _MOST_GROUPS:
        return list(class_names), {label: label for label in range(len(class_names))}
    return [f"all {len(class_names)} classes"], dict.fromkeys(range(len(class_names)), 0)


def _scatter(places: Sequence[tuple[float, float]], groups: Sequence[int]) -> str:
    """Points in a plane, a dot or a cross for each, by group; the axes have no unit, and up is up."""
    xs, ys = [x for x, _ in places], [y for _, y in places]
    reach = max(max(xs) - min(xs), max(ys) - min(ys)) or 1.0
    unit = _SIDE / reach
    width, height = (round((max(values) - min(values)) * unit) + 16 for values in (xs, ys))
    strokes: list[str] = []
    for group in sorted(set(groups)):
        inside = [
            (round((x - min(xs)) * unit) + 8, round((max(ys) - y) * unit) + 8)
            for (x, y), of in zip(places, groups, strict=True)
            if of == group
        ]
        cross = group >= len(PALETTE)
        mark = "m-2-2l4 4m0-4l-4 4" if cross else "h0"
        drawn = "".join(f"M{x} {y}{mark}" for x, y in inside)
        style = f"fill: none; stroke: {css_colour(group)}; stroke-width: {1.3 if cross else 4.5}; stroke-linecap: round"
        strokes.append(f'<path style="{style}" d="{drawn}"/>')
    return f'<svg aria-hidden="true" viewBox="0 0 {width} {height}">{"".join(strokes)}</svg>'
