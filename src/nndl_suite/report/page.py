"""The report: one HTML file about any number of runs, with nothing outside it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from jinja2 import Environment, PackageLoader, StrictUndefined, TemplateError

from nndl_suite.errors import RunError
from nndl_suite.report import colours, words
from nndl_suite.report.embed import data_uri
from nndl_suite.report.sections import Section, gather
from nndl_suite.report.side_by_side import Finished, Group, side_by_side
from nndl_suite.report.studies import formula
from nndl_suite.training.files import write_atomically

_MISFIT = (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What templates and words fail with where a result is not of its kind."""


def write_report(runs: Sequence[Path | str], out: Path | str) -> Path:
    """Write one self-contained page about runs of any kind, finished or not; torch is not needed for it.

    Args:
        runs: Run folders, in the order in which to show them.
        out: The HTML file; replaced if it exists, its folder made.

    Returns:
        `out`.

    Raises:
        RunError: there is no run to show, a folder holds none, or a file of one is damaged.
    """
    if not runs:
        raise RunError("a report wants at least one run folder")
    sections = [gather(Path(run), f"run-{place}") for place, run in enumerate(runs, start=1)]
    try:
        page = _environment().get_template("page.html.j2")
        html = page.render(sections=sections, groups=_groups(sections), colours=colours)
    except _MISFIT as error:
        told = ", ".join(str(Path(section.path) / "result.json") for section in sections)
        raise RunError(
            f"{told}: a result.json lacks something that its kind always has ({error}); run that again"
        ) from error
    out = Path(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make {out.parent}: {error.strerror}; choose another --out") from error
    write_atomically(out, lambda part: part.write_text(html, encoding="utf-8"))
    return out


def _groups(sections: Sequence[Section]) -> list[Group]:
    """Of each kind that has several finished runs."""
    kinds = dict.fromkeys(section.kind for section in sections)
    groups = [
        side_by_side(
            kind,
            [
                Finished(name=section.name, slug=section.slug, result=section.result, metrics=section.metrics)
                for section in sections
                if section.kind == kind and section.result is not None
            ],
        )
        for kind in kinds
    ]
    return [group for group in groups if group is not None]


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("nndl_suite.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    say: tuple[Callable[..., str], ...] = (
        words.brief,
        words.count,
        data_uri,
        words.duration,
        formula,
        words.gigaflops,
        words.percent,
        words.percent_interval,
        words.points,
    )
    filters = cast(dict[str, Callable[..., str]], environment.filters)
    filters.update({function.__name__: function for function in say})
    return environment
