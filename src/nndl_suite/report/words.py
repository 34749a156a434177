"""How numbers and findings are put into words."""

from collections.abc import Mapping, Sequence

from nndl_suite.training.files import Json


def percent(share: float) -> str:
    """0.7213 -> "72.13 %"."""
    return f"{100 * share:.2f} %"


def percent_interval(ci95: Sequence[float] | None) -> str:
    """[0.71, 0.73] -> "71.00 to 73.00 %"."""
    return "" if ci95 is None else f"{100 * ci95[0]:.2f} to {100 * ci95[1]:.2f} %"


def points(difference: float) -> str:
    """0.031 -> "+3.10", in percentage points."""
    return f"{100 * difference:+.2f}"


def count(number: float) -> str:
    """11220132 -> "11,220,132"."""
    return f"{number:,.0f}"


def gigaflops(flops: float) -> str:
    """1110937600 -> "1.11 G"."""
    return f"{flops / 1e9:.3g} G"


def duration(seconds: float) -> str:
    """4210 -> "1 h 10 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{seconds / 60:.1f} min"


def brief(value: Json) -> str:
    """A setting or a figure, short: six digits of a number, lists joined."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, list):
        return ", ".join(brief(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {brief(item)}" for key, item in value.items())
    return str(value)


def flat(settings: Mapping[str, Json], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as rows: `recipe.batch_size`, "256"."""
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, dict):
            rows += flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", brief(value)))
    return rows


def conclusion(cnn: str, transformer: str, *, mean: float, ci95: Sequence[float] | None, seeds: int) -> str:
    """What the interval of the paired difference (Transformer minus CNN) allows one to say, in one sentence."""
    if mean == 0:
        return f"{transformer} and {cnn} scored the same on average over {seeds} seed{'s' if seeds > 1 else ''}."
    size = f"{100 * abs(mean):.2f} points"
    ahead, behind = (transformer, cnn) if mean > 0 else (cnn, transformer)
    if ci95 is None:
        return (
            f"With this one seed {ahead} scored {size} above {behind}; whether another seed would agree, "
            "a single one cannot say."
        )
    if ci95[0] <= 0 <= ci95[1]:
        return (
            f"These {seeds} seeds do not tell the two apart: {ahead} is {size} ahead on average, and the 95 % interval "
            f"of {transformer} minus {cnn}, {points(ci95[0])} to {points(ci95[1])} points, holds zero."
        )
    return (
        f"Under this recipe {ahead} is better than {behind} by {size} (95 % interval of {transformer} minus {cnn} "
        f"over {seeds} seeds: {points(ci95[0])} to {points(ci95[1])} points)."
    )
