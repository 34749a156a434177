"""The `result.json` of a tuning on the screen."""

from typing import Any


def tuning_facts(result: dict[str, Any]) -> tuple[str, list[list[str]]]:
    """What was chosen, out of what, and what it is worth."""
    best, budget, states = result["best"], result["budget"], [trial["state"] for trial in result["trials"]]
    ended = ", ".join(f"{states.count(state)} {state}" for state in ("complete", "pruned", "failed") if state in states)
    importance = result["importance"]
    again = result["put_back"]
    return f"{result['arm']} tuned on {result['dataset']}", [
        *([_words(name), f"{value:.4g}"] for name, value in best["settings"].items()),
        [
            "validation accuracy",
            f"{best['val_accuracy']:.2%}  (the best of many, so it flatters; test images not read)",
        ],
        ["trials", f"{budget['trials']} of {budget['epochs']} epochs: {ended}"],
        ["searched", ", ".join(f"{_words(name)} {_range(span)}" for name, span in result["space"].items())],
        *(
            [["importance", ", ".join(f"{_words(name)} {share:.0%}" for name, share in importance.items())]]
            if importance
            else []
        ),
        *(["note", f"the best {_words(name)} lies at an end of its span: widen it"] for name in result["at_edge"]),
        *([["begun again", f"{again}, after a worker was stopped"]] if again else []),
        ["storage", result["storage"]],
    ]


def _range(span: dict[str, Any]) -> str:
    if "values" in span:
        return " or ".join(f"{value:g}" for value in span["values"])
    return f"{span['low']:g} to {span['high']:g}" + (" (log)" if span["log"] else "")


def _words(name: str) -> str:
    return name.replace("_", " ")
