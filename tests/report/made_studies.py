"""Studies, scales, sweeps and tunings as their engines leave them, made up in an instant."""

from nndl_suite.training.files import write_json
from nndl_suite.training.runs import open_run

CLASSES = ["cat", "dog", "oak", "elm"]
SUPERCLASSES = {"animals": [0, 1], "trees": [2, 3]}


def _gain(mean, *, superclasses):
    return {
        "mean": mean,
        "ci95": [mean - 0.01, mean + 0.01],
        "interval": "student-t over seeds",
        "per_class": [mean, mean + 0.1, None, mean - 0.1],
        "per_superclass": {"animals": mean + 0.05, "trees": mean - 0.1} if superclasses else {},
    }


def _row(name, kind, mean, protocol, *, superclasses):
    return {
        "name": name,
        "kind": kind,
        "protocol": protocol,
        "seeds": [0, 1],
        "mean": mean,
        "ci95": [mean - 0.02, mean + 0.02],
        "interval": "student-t over seeds",
        "val_accuracy": mean,
        "resolution": 32,
        "gain_over_scratch": None if kind == "scratch" else _gain(mean - 0.5, superclasses=superclasses),
        "warning": "features have <collapsed>" if kind == "ssl" else None,
        "gain_over_random": None if kind == "random" else _gain(mean - 0.1, superclasses=superclasses),
    }


def study(root, *, superclasses=True, finished=True, mapped=True):
    run = open_run(root / "study", kind="study", settings={"methods": ["simclr"]}, resume=False)
    rows = [
        _row(name, kind, mean, protocol, superclasses=superclasses)
        for name, kind, mean in (("simclr on <b>", "ssl", 0.4), ("random", "random", 0.1), ("scratch", "scratch", 0.5))
        for protocol in ("linear", "knn")
    ]
    fields = {
        "downstream": "cifar100",
        "datasets": ["cifar10"],
        "methods": ["simclr"],
        "protocols": ["linear", "knn"],
        "seeds": [0, 1],
        "backbone": "resnet18",
        "class_names": CLASSES,
        "superclasses": SUPERCLASSES if superclasses else {},
        "rows": rows,
        "absent": {"imagenet": "weights are <not> here"},
        "best": {"name": "simclr on <b>", "protocol": "linear"},
        "best_ssl": {"name": "simclr on <b>", "protocol": "linear"},
        "confusions": [{"true": "oak", "predicted": "elm", "count": 12.5, "share": 0.125}],
    }
    if mapped:
        xy = [[0.1 * i, -0.2 * i] for i in range(8)]
        maps = [{"name": "simclr on <b>", "explained": [0.25, 0.125], "xy": xy}]
        content = {"method": "first two principal components", "labels": [0, 1, 2, 3] * 2, "maps": maps}
        write_json(run.path / "embedding.json", content)
    if finished:
        run.finish("study", seconds=100, seed=0, fields=fields)
    return run.path


def scale(root, *, fitted=True):
    run = open_run(root / "scale", kind="scale", settings={}, resume=False)
    points, sizes, curves = [], [], {}
    for fixed in ("epochs", "steps"):
        for fraction, images in ((0.1, 5000), (1.0, 50000)):
            sizes.append({"fixed": fixed, "fraction": fraction, "images": images, "mean": 0.3, "ci95": None})
            points.append(
                {"fixed": fixed, "images": images, "seed": 0, "test_accuracy": 0.3 * fraction + 0.1, "warning": None}
            )
        band = {"images": [5000.0, 50000.0], "accuracy": [0.1, 0.4], "low": [0.05, 0.3], "high": [0.2, 0.5]}
        curves[fixed] = {"form": "power law", "a": 0.5, "b": 0.123, "c": 0.4, "rmse": 0.0123, **band}
    fields = {
        "dataset": "cifar10",
        "downstream": "cifar100",
        "method": "byol",
        "backbone": "resnet18",
        "protocol": "linear",
        "fractions": [0.1, 1.0],
        "seeds": [0],
        "fixed": ["epochs", "steps"],
        "stratified": True,
        "points": points,
        "sizes": sizes,
        "curves": curves if fitted else {},
    }
    run.finish("scale", seconds=100, seed=0, fields=fields)
    return run.path


def sweep(root):
    run = open_run(root / "sweep", kind="sweep", settings={}, resume=False)
    rows = [
        {
            "settings": {"temperature": temperature, "batch_size": 256},
            "val_accuracy": [mean],
            "mean": mean,
            "ci95": None,
            "final_loss": 5.0,
            "effective_rank": 42.0,
            "steps": 1950,
            "seconds": 90.0,
            "warning": None,
        }
        for temperature, mean in ((0.1, 0.31), (0.5, 0.36))
    ]
    fields = {
        "dataset": "cifar10",
        "downstream": "cifar100",
        "method": "simclr",
        "backbone": "resnet18",
        "design": "product",
        "vary": {"temperature": [0.1, 0.5], "batch_size": [256]},
        "seeds": [0],
        "rows": rows,
        "diverged": [{"settings": {"temperature": 9.0, "batch_size": 256}, "why": "loss is nan at step 3"}],
        "chosen": 1,
        "test_accuracy": [0.3456],
        "test_mean": 0.3456,
        "test_ci95": [0.33, 0.36],
        "interval": "wilson over test images",
    }
    run.finish("sweep", seconds=100, seed=0, fields=fields)
    return run.path


def _trial(number, state, accuracy, curve, rate, reason=None):
    return {
        "number": number,
        "settings": {"rate": rate, "label_smoothing": 0.1, "batch_size": 64} if rate else {},
        "state": state,
        "val_accuracy": accuracy,
        "curve": curve,
        "seconds": 1.5,
        "reason": reason,
    }


def tuning(root, *, finished=True, importance=True):
    run = open_run(root / "tune-vit", kind="tuning", settings={"arm": "vit"}, resume=False)
    trials = [
        _trial(0, "complete", 0.5, [0.25, 0.5], 1e-3),
        _trial(1, "failed", None, [], 1e-2, "loss is <nan> at step 3"),
        _trial(3, "pruned", 0.125, [0.125], 1e-4),
        _trial(4, "complete", 0.75, [0.375, 0.75], 2e-3),
        _trial(5, "failed", None, [], None, "3 workers died"),
    ]
    fields = {
        "arm": "vit<b>",
        "dataset": "cifar100",
        "trials": trials,
        "best": trials[3],
        "space": {
            "rate": {"low": 1e-4, "high": 1e-2, "log": True},
            "label_smoothing": {"low": 0, "high": 0.3, "log": False},
            "batch_size": {"values": [64, 128]},
        },
        "budget": {"trials": 5, "epochs": 2, "sampler": "TPE", "pruner": "median of 2 or more complete trials"},
        "importance": {"rate": 0.75, "label_smoothing": 0.25, "batch_size": 0.0} if importance else None,
        "at_edge": ["rate"],
        "put_back": 2,
        "storage": "study.journal",
    }
    if finished:
        run.finish("tuning", seconds=10, seed=0, fields=fields)
    return run.path
