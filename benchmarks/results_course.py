"""The part of docs/results.md that puts the course project's numbers beside this package's."""

from __future__ import annotations

from typing import Any

from results_words import Found, commands, count, duration, file, millions, percent, table, within

MISSING = "not measured"


def section(found: Found) -> str:
    """All of its numbers, by experiment; what was not measured comes with the command that would."""
    about = found["course_project"]["about"]
    parts = [
        "## The course project, number by number",
        f"{about} {file('course_project')}. Its scores were chosen on the test images; under *its protocol* we "
        "do as it "
        "did, under *the honest one* whatever is chosen is chosen on validation images and the test images are "
        "read once.",
        _comparison(found),
        _representation(found),
        _nerf(found),
    ]
    return "\n\n".join(parts)


def _comparison(found: Found) -> str:
    theirs = found["course_project"]["comparison"]
    course, matched = ({arm["name"]: arm for arm in found["course_counts"][pair]} for pair in ("course", "matched"))
    trials = {one["arm"]: one for one in found["speed_recipe_trials"]["default"]}
    rows = []
    for arm, own in (("resnet18", "course-resnet18"), ("vit", "course-vit")):
        named = theirs["arms"][arm]
        rows.append(
            [
                f"{arm}: parameters",
                count(named["parameters"]),
                f"{count(course[own]['parameters'])} (`{own}`)",
                f"{count(matched[arm]['parameters'])} (`{arm}`)",
            ]
        )
        val = trials[arm]
        rows.append(
            [
                f"{arm}: accuracy after {theirs['epochs']} epochs",
                percent(named["test_accuracy"], 2),
                f"{MISSING} (1)",
                f"{MISSING} (2); {percent(val['val_accuracy'])} of *validation* images after {val['epochs']} "
                "epochs (3)",
            ]
        )
    small = found["cifar100_comparison"]["result"]
    rows.append(
        [
            "epoch at which the Transformer overtakes",
            f"≈ {theirs['overtakes_at_epoch']}",
            f"{MISSING} (1)",
            f"{MISSING} (2); not within {small['epochs']} epochs of two arms of "
            f"{millions(small['arms'][0]['parameters'])}",
        ]
    )
    runs = found["speed_preset"]["runs"]
    rows += [
        [
            f"any network: `{run['arm']}`, {run['epochs']} epochs",
            f"{percent(max(a['test_accuracy'] for a in theirs['arms'].values()), 2)} at best",
            "",
            f"**{within(run['test_accuracy'], run['test_accuracy_ci95'])}** after {duration(run['seconds'])} on "
            f"{run['machine']['cores']} CPU cores",
        ]
        for run in runs
    ]
    return "\n\n".join(
        [
            f"### CNN or Transformer\n\n{theirs['dataset']}. Its protocol: {theirs['protocol']}.",
            table(["", "course project", "its protocol, here", "the honest one, here"], rows),
            f"(1), (2): for a GPU, not yet run. (3): recipe `default` with a batch of "
            f"{count(trials['vit']['changed']['batch_size'])} at rate "
            f"{trials['vit']['changed']['rates']['rate']:g}; training "
            "and validation images had been compressed once as WebP, so these are no test scores. Of the pair "
            "of 11 M no "
            "test score is kept.",
            commands(
                "nndl-suite compare --cnn course-resnet18 --transformer course-vit --recipe course-2024 "
                "--dataset cifar100 --epochs 100 --seeds 3 --out runs/course                             # (1)",
                "nndl-suite tune --arm resnet18 --dataset cifar100 --trials 20 --epochs 30 --out runs/tune-cnn",
                "nndl-suite tune --arm vit --dataset cifar100 --trials 20 --epochs 30 --out runs/tune-vit",
                "nndl-suite compare --dataset cifar100 --epochs 100 --seeds 3 "
                "--tuned runs/tune-cnn --tuned runs/tune-vit --out runs/honest                           # (2)",
            ),
            f"From {file('course_counts', 'cifar100_comparison', 'speed_preset', 'speed_recipe_trials')}.",
        ]
    )


def _representation(found: Found) -> str:
    theirs = found["course_project"]["representation"]
    ours = found["cifar100_representation"]
    scores, tuned, linear = theirs["test_accuracy"], ours["finetune"], _linear(ours)
    made = theirs["pretraining"]["epochs"]

    def fine(name: str) -> str:
        one = tuned[name]
        return f"{within(one['test_accuracy'], one['test_accuracy_ci95'])} ({one['chosen']['epochs']} epochs)"

    def frozen(name: str) -> str:
        return within(linear[name]["test_accuracy"], linear[name]["ci95"])

    pretrained = ours["pretraining"]["simclr-cifar10-seed0"]["epochs"]
    warm, hot = "simclr cifar10, 15 epochs", "simclr cifar10, temperature 0.2, 20 epochs"
    rows = [
        ["random", _about(scores["random"]), fine("random, 8 epochs"), frozen("random")],
        [
            f"SimCLR on CIFAR-10 (theirs {made['cifar10']} epochs, ours {pretrained})",
            _about(scores["cifar10"]),
            f"{fine(warm)}; at temperature 0.2 {fine(hot)}",
            f"{frozen('simclr on cifar10')}; at temperature 0.2 {frozen('temperature 0.2')}",
        ],
        [
            f"SimCLR on STL-10 (theirs {made['stl10']} epochs)",
            _about(scores["stl10"]),
            f"{MISSING} (4)",
            f"{MISSING} (4)",
        ],
        [
            "ImageNet, supervised, at 32 px",
            _about(scores["imagenet"]),
            fine("imagenet at 32 px, 15 epochs"),
            f"{frozen('imagenet at 32 px')}; at 128 px {frozen('imagenet at 128 px')}",
        ],
    ]
    ways = theirs["pretraining"]
    return "\n\n".join(
        [
            f"### Representation\n\n{theirs['dataset']}. Its protocol: {theirs['protocol']}, after "
            f"{theirs['epochs']} epochs. Ours "
            "beside it is `--protocol finetune`: a head of two layers too, the backbone at a tenth of its rate, "
            "its epochs said. The "
            f"honest one is the linear protocol on frozen features. {ours['data']}",
            table(["features", "course project, fine-tuned", "fine-tuned, here", "linear protocol, here"], rows),
            f"Its pretraining to the letter (temperature {ways['temperature']}, batch {ways['batch']}; the "
            "optimiser is our "
            f"SimCLR's) and STL-10 are {MISSING}:",
            commands(
                f"nndl-suite ssl pretrain --dataset cifar10 --stem imagenet --temperature {ways['temperature']} "
                f"--batch-size {ways['batch']} --epochs {made['cifar10']} --out runs/simclr-cifar10",
                f"nndl-suite ssl pretrain --dataset stl10 --stem imagenet --temperature {ways['temperature']} "
                f"--batch-size {ways['batch']} --epochs {made['stl10']} --out runs/simclr-stl10      # (4)",
                f"nndl-suite ssl probe --features runs/simclr-stl10 --dataset cifar100 --protocol finetune "
                f"--epochs {theirs['epochs']} --out runs/finetune-stl10",
                "nndl-suite ssl probe --features runs/simclr-stl10 --dataset cifar100 --out runs/probe-stl10",
            ),
            f"From {file('cifar100_representation')}.",
        ]
    )


def _linear(ours: dict[str, Any]) -> dict[str, dict[str, Any]]:
    rows = {
        row["name"]: {"test_accuracy": row["mean"], "ci95": row["ci95"]}
        for row in ours["study"]["rows"]
        if row["protocol"] == "linear"
    }
    apart = ours["linear, simclr cifar10, temperature 0.2"]
    return rows | {"temperature 0.2": {"test_accuracy": apart["test_accuracy"], "ci95": apart["test_accuracy_ci95"]}}


def _about(scores: list[float]) -> str:
    return f"≈ {'-'.join(f'{100 * score:.3g}' for score in scores)} %"


def _nerf(found: Found) -> str:
    theirs, beside = found["course_project"]["nerf"], found["fox_against_nerfacto"]
    peer, fox = beside["peer"][-1], found["fox"]["curve"]
    rows = [
        [
            f"its video: {theirs['video_seconds']} s, {theirs['frames']} frames, "
            f"{percent(theirs['holdout'], 0)} held out",
            f"{theirs['psnr']} dB after {theirs['minutes']} min on a GPU ({count(theirs['steps'])} steps)",
            f"{MISSING} (5)",
        ],
        [
            f"the fox, 270×480, every 8th held out, {beside['cores']} CPU cores",
            f"{peer['psnr']:.2f} dB after {duration(peer['seconds'])} (nerfacto, {peer['steps']} steps)",
            "; ".join(f"{one['psnr']:.2f} dB after {duration(one['train_seconds'])}" for one in fox),
        ],
    ]
    return "\n\n".join(
        [
            f"### Object to NeRF\n\nIts method is {theirs['method']}, its capture {theirs['capture']}, which we "
            "do not have; another "
            "scene's decibels are not comparable. So nerfacto was run beside ours on a scene that both have.",
            table(["", "nerfacto", "here"], rows),
            commands(
                f"nndl-suite nerf train VIDEO --video-frames {theirs['frames']} --holdout {theirs['holdout']} "
                "--minutes 20 --out runs/video      # (5)"
            ),
            f"From {file('fox_against_nerfacto', 'fox')}.",
        ]
    )
