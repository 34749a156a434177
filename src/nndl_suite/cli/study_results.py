"""The `result.json` of a study, a scale or a sweep as tables on the screen."""

from typing import Any

from nndl_suite.cli.screen import print_table

_CONFUSIONS_SHOWN = 5


def print_study(result: dict[str, Any]) -> None:
    """Row by row, protocol by protocol; then what is absent, and what the best row mixes up."""
    rows = [
        [
            row["name"],
            row["protocol"],
            str(row["resolution"]),
            f"{row['mean']:.2%}",
            _interval(row["ci95"]),
            _gain(row["gain_over_scratch"]),
            _gain(row["gain_over_random"]),
        ]
        for row in result["rows"]
    ]
    columns = ["features", "protocol", "pixels", "test accuracy", "95 % interval", "over scratch", "over random"]
    print_table(f"study on {result['downstream']}", columns, rows)
    if result["absent"]:
        print_table("absent", ["features", "why"], [[name, why] for name, why in result["absent"].items()])
    confusions = [
        [f"{pair['true']} taken for {pair['predicted']}", f"{pair['share']:.0%}"]
        for pair in result["confusions"][:_CONFUSIONS_SHOWN]
    ]
    print_table(f"what {result['best']['name']} mixes up ({result['best']['protocol']})", ["", ""], confusions)


def print_scale(result: dict[str, Any]) -> None:
    """Size by size, budget by budget; then the fitted curves."""
    rows = [
        [
            f"fixed {size['fixed']}",
            f"{size['fraction']:g}",
            f"{size['images']:,}",
            f"{size['mean']:.2%}",
            _interval(size["ci95"]),
        ]
        for size in result["sizes"]
    ]
    title = f"{result['method']} on parts of {result['dataset']}, {result['protocol']} probe on {result['downstream']}"
    print_table(title, ["", "fraction", "images", "test accuracy", "95 % interval"], rows)
    curves = [[f"fixed {fixed}", _formula(curve), f"{curve['rmse']:.2%}"] for fixed, curve in result["curves"].items()]
    if curves:
        print_table("fitted error, u the share of the largest set", ["", "", "rmse"], curves)


def print_sweep(result: dict[str, Any]) -> None:
    """Combination by combination; test accuracy stands with the chosen one alone."""
    names = list(result["vary"])
    rows = [
        [
            *(f"{row['settings'][name]:g}" for name in names),
            f"{row['mean']:.2%}",
            f"{row['effective_rank']:.1f}",
            f"{result['test_mean']:.2%} {_interval(result['test_ci95'])}" if place == result["chosen"] else "",
        ]
        for place, row in enumerate(result["rows"])
    ]
    rows += [[*(f"{one['settings'][name]:g}" for name in names), "diverged", "", ""] for one in result["diverged"]]
    columns = [*(name.replace("_", " ") for name in names), "validation accuracy", "effective rank", "test accuracy"]
    print_table(f"{result['method']} on {result['dataset']}, linear probe on {result['downstream']}", columns, rows)


def _formula(curve: dict[str, Any]) -> str:
    if curve["form"] == "power law":
        return f"{curve['a']:.3f} + {curve['b']:.3f} u^-{curve['c']:.3f}"
    return f"{curve['a']:.3f} - {curve['b']:.3f} ln u"


def _gain(gain: dict[str, Any] | None) -> str:
    return "" if gain is None else f"{gain['mean']:+.2%} {_interval(gain['ci95'])}"


def _interval(ci95: list[float] | None) -> str:
    return "" if ci95 is None else f"[{ci95[0]:.2%}, {ci95[1]:.2%}]"
