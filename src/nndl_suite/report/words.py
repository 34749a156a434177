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


def last_name(place: str) -> str:
    """ "/data/runs/simclr" -> "simclr"; what is no path ("random", "imagenet") stays."""
    return place.replace("\\", "/").rstrip("/").rpartition("/")[2] or place


def count(number: float) -> str:
    """11220132 -> "11,220,132"."""
    return f"{number:,.0f}"


def gigaflops(flops: float) -> str:
    """1110937600 -> "1.11 G"."""
    return f"{flops / 1e9:.3g} G"


def scale_of(budget: str, most: float) -> tuple[float, str]:
    """A unit in which `most` FLOPs or seconds are a short number: 2e15 FLOPs -> (1e15, "PFLOP")."""
    if budget == "flops":
        return (1e15, "PFLOP") if most >= 1e15 else (1e12, "TFLOP")
    return (60.0, "minutes") if most >= 600 else (1.0, "seconds")


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


def counted(number: int, what: str) -> str:
    """3, "seed" -> "3 seeds"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def conclusion(  # noqa: PLR0913 - a sentence of six parts
    where: str, cnn: str, transformer: str, *, mean: float, ci95: Sequence[float] | None, seeds: int
) -> str:
    """What the paired difference (Transformer minus CNN) allows one to say, in one sentence.

    Args:
        where: Its beginning, with the circumstances: "On cifar100, with this recipe and 5 epochs,".
        cnn: Name of the first arm.
        transformer: Name of the second arm.
        mean: Of the difference, as a share.
        ci95: Its interval over seeds; None for one seed.
        seeds: How many pairs.
    """
    ahead, behind = (transformer, cnn) if mean > 0 else (cnn, transformer)
    if ci95 is None:
        if mean == 0:
            return f"{where} {transformer} and {cnn} scored the same with the one seed that was trained."
        return f"{where} {ahead} scored {100 * abs(mean):.2f} points above {behind} with the one seed that was trained."
    if ci95[0] <= 0 <= ci95[1]:
        return (
            f"{where} no difference is shown: {transformer} minus {cnn} is {points(ci95[0])} to {points(ci95[1])} "
            f"points (95 %, {seeds} paired seeds), which includes 0."
        )
    low, high = sorted(100 * abs(bound) for bound in ci95)
    return (
        f"{where} {ahead} is {low:.2f} to {high:.2f} points better than {behind} (95 %, {seeds} paired seeds; "
        f"mean {100 * abs(mean):.2f})."
    )


def no_pair(cnn: str, transformer: str) -> str:
    """What may be said where no seed has both arms."""
    return f"Nothing may be concluded about {transformer} and {cnn}: no seed was trained to the end with both."


def reservation(*, seeds: int, tuning_trials: int) -> str:
    """What a comparison does not allow one to say."""
    alone = "whether another seed would agree, nor " if seeds == 1 else ""
    rates = f"tuned with {counted(tuning_trials, 'trial')} each" if tuning_trials else "not tuned"
    return (
        f"This does not say {alone}which is better with another recipe, size, length of training or data set; "
        f"the rates were {rates}."
    )
