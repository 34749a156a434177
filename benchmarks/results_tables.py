"""The part of docs/results.md with everything else that was measured, by experiment."""

from __future__ import annotations

from typing import Any

from results_words import Found, commands, count, duration, file, millions, percent, seeds, table, within


def measured(found: Found) -> str:
    """Everything else, by experiment."""
    parts = ["## What else was measured", _features(found), _arms(found), _speed_recipe(found), _gpu(found)]
    return "\n\n".join([*parts, _fields(found), _data(found)])


def _features(found: Found) -> str:
    ours = found["cifar100_representation"]
    rows = [
        [row["name"], row["protocol"], within(row["mean"], row["ci95"]), percent(row["val_accuracy"])]
        for row in ours["study"]["rows"]
    ]
    return "\n\n".join(
        [
            f"### Features on CIFAR-100\n\n{ours['about']}.",
            table(["features", "protocol", "test accuracy", "validation"], rows),
            "A backbone that was trained with CIFAR-100's labels has seen the labels of the validation images, so its "
            f"validation accuracy is no estimate. From {file('cifar100_representation')}:",
            commands(*(f"# {name}\n{command}" for name, command in ours["commands"].items())),
        ]
    )


def _arms(found: Found) -> str:
    comparison = found["cifar100_comparison"]
    result = comparison["result"]
    rows = [_arm_row(f"`{arm['name']}`, {count(arm['parameters'])}", arm) for arm in result["arms"]]
    rows.append(_arm_row("difference, paired by seed, in points", result["difference"], unit=""))
    return "\n\n".join(
        [
            f"### CNN or Transformer, small\n\n{comparison['about']}.",
            table(["arm, parameters", "test accuracy", "top-5", "calibration error", "corrupted images"], rows),
            f"May be said: {result['sentence']['may']} May not: {result['sentence']['may_not']}",
            commands(comparison["command"]),
            f"From {file('cifar100_comparison')}.",
        ]
    )


def _arm_row(name: str, one: dict[str, Any], unit: str = " %") -> list[str]:
    measures = [f"{100 * one['measures'][key]['mean']:.1f}{unit}" for key in ("top5", "ece", "corrupted")]
    return [name, within(one["mean"], one["ci95"], unit), *measures]


def _speed_recipe(found: Found) -> str:
    preset = found["speed_preset"]
    rows = [
        [
            f"`{run['arm']}`, {millions(run['parameters'])}",
            str(run["epochs"]),
            f"**{within(run['test_accuracy'], run['test_accuracy_ci95'])}**",
            percent(run["val_accuracy"][-1]),
            duration(run["seconds"]),
        ]
        for run in preset["runs"]
    ]
    card = preset["gpu"]
    on_card = ", ".join(f"{name} in {duration(s)}" for name, s in card.items() if isinstance(s, float))
    arm, second = preset["runs"][0], preset["runs"][1]
    return "\n\n".join(
        [
            "### `train --recipe speed` on CIFAR-100 (restored copy), two CPU cores",
            table(["arm", "epochs", "test accuracy", "validation", "training and validation"], rows),
            f"One seed ({seeds(preset)}). {preset['beside']} The recipe was chosen on validation images "
            f"({file('speed_recipe_trials')}), the test images were read once. On one {card['gpu']}: {on_card} "
            f"({card['what']}).",
            commands(
                *(
                    f"nndl-suite train --arm {run['arm']} --recipe speed --dataset cifar100 --epochs {run['epochs']} "
                    f"--seed {run['seed']} --out runs/{run['arm']}"
                    for run in (arm, second)
                )
            ),
            f"From {file('speed_preset')}.",
        ]
    )


def _gpu(found: Found) -> str:
    steps, views = found["gpu_h200"], found["gpu_h200_pretraining"]
    rows = [
        [
            f"`{one['arm']}`, {millions(one['parameters'])}{', compiled' if one['compiled'] else ''}, batch "
            f"{one['batch']}",
            count(one["bare_images_per_second"]),
            count(one["images_per_second"]),
            percent(one["of_bare"], 0),
            percent(one["of_matrix_product"], 0),
        ]
        for one in steps["comparison"]
    ]
    rows += [
        [
            f"SimCLR, `resnet18`, {one['stem']} stem, batch {one['batch']} (two views of each)",
            count(one["bare_images_per_second"]),
            count(one["images_per_second"]),
            percent(one["of_bare"], 0),
            "",
        ]
        for one in views["pretraining"]
    ]
    return "\n\n".join(
        [
            f"### One {steps['ceilings']['gpu']}, bf16, images a second",
            table(["steps", "bare", "ours", "of bare", "of a large matrix product's FLOP/s"], rows),
            f"From {file('gpu_h200', 'gpu_h200_pretraining')}. Trainings on a GPU were scored "
            f"on images that had been compressed once as WebP alone ({file('speed_recipe_trials')}), not on CIFAR-100 "
            "as it is.",
        ]
    )


def _fields(found: Found) -> str:
    rows = [
        _field_row(f"{scene}, CPU", one, one.get("ssim"), one.get("lpips"))
        for scene in ("fox", "bricks")
        for one in found[scene]["curve"]
    ]
    card = found["gpu_h200_nerf"]
    rows += [_field_row(f"{one['part']}, {card['gpu']}", one) for one in card["results"] if "psnr" in one]
    step = next(one for one in card["results"] if one["part"] == "step")
    made = found["bricks"]["curve"][0]
    return "\n\n".join(
        [
            "### Radiance fields, held-out photos",
            table(["scene", "training", "PSNR", "SSIM", "LPIPS"], rows),
            "Fox: 50 phone photos with given poses, 270×480, every 8th held out. Bricks: an object, made, 400×400, "
            f"{made['test_images']} views held out. The field's settings were tried out on the fox's held-out "
            "photos. On the GPU a "
            f"step of {count(step['samples'])} samples takes {step['ms']:.2f} ms. {card['known']} "
            f"From {file('fox', 'bricks', 'gpu_h200_nerf')}.",
        ]
    )


def _field_row(name: str, one: dict[str, Any], ssim: float | None = None, lpips: float | None = None) -> list[str]:
    known = [f"{value:.3f}" if value is not None else "" for value in (ssim, lpips)]
    return [name, duration(round(one["train_seconds"])), f"{one['psnr']:.2f} dB", *known]


def _data(found: Found) -> str:
    probe, shards = found["probe_made"], found["shards_speed"]
    first, path = probe["data"], probe["path"]
    reading = shards["reading"]
    rows = [
        [
            f"linear protocol, {count(first['train'])} + {count(first['test'])} rows of {first['dim']}, "
            f"{first['classes']} classes",
            f"{duration(probe['linear']['seconds'])} for {probe['linear']['settings_tried']} penalties; steps at "
            f"{percent(path['gflops'] / path['sgemm_gflops'], 0)} of the bare matrix products",
        ],
        [
            f"{count(shards['settings']['images'])} images from shards, opened by index",
            f"{duration(shards['opening']['indexed']['seconds'])}; by walking the tars "
            f"{duration(shards['opening']['walked']['seconds'])}",
        ],
        [
            "read in shuffled order, 3 workers",
            f"{count(reading['workers_3_warm']['images_per_second'])} images a second "
            f"({count(reading['workers_3_cold']['images_per_second'])} from a cold disk)",
        ],
    ]
    return "\n\n".join(
        [
            "### Probes and shards, two CPU cores",
            table(["what", "measured"], rows),
            f"From {file('probe_made', 'shards_speed')}; models of more GPUs and images, and what was measured "
            "beside them, "
            f"are in [scaling.md](scaling.md) ({file('scaling')}).",
        ]
    )
