"""The part of docs/results.md that puts other libraries' speeds beside this package's, on the same machine."""

from __future__ import annotations

from results_words import Found, count, duration, file, millions, percent, span, table


def peers(found: Found) -> str:
    """Speed beside lightly, plain PyTorch, nerfacto, and what CutMix means in each library."""
    parts = ["## Beside the peers, on the same machine", _pretraining(found), _comparison_steps(found)]
    return "\n\n".join([*parts, _nerfacto(found), _cutmix(found)])


def _pretraining(found: Found) -> str:
    views, stems = found["views_speed"], found["pretrain_speed_both_stems"]
    versions = views["peers"]
    rows = []
    for name, one in (
        ("ImageNet stem at 32 px", found["pretrain_speed"]["imagenet"]),
        ("CIFAR stem", stems["cifar"]),
    ):
        of_bare = [one["ours"] / one[bare] for bare in ("bare", "bare_again")]
        rows.append(
            [
                f"SimCLR steps, ResNet-18, {name}",
                count(one["lightly"]),
                count(one["ours"]),
                f"{one['ours_of_lightly']:.1f}",
                f"{span([100 * share for share in of_bare])} %",
            ]
        )
    pairs = views["pairs_per_second"]
    own = [pairs["ours"], pairs["ours_again"]]
    rows.append(
        [
            f"views alone, lightly's in {views['workers']} workers",
            count(pairs["lightly"]),
            span(own),
            span([each / pairs["lightly"] for each in own]),
            "",
        ]
    )
    return "\n\n".join(
        [
            f"### Self-supervised pretraining: lightly {versions['lightly']}'s documented loop",
            table(["images a second, two views of each", "lightly", "ours", "ratio", "of bare steps"], rows),
            "Bare steps are of the same network, batch and precision, on views that are ready; measured before "
            "and after, "
            "and the machine's own speed moved between. From "
            f"{file('pretrain_speed', 'pretrain_speed_both_stems', 'views_speed')}.",
        ]
    )


def _comparison_steps(found: Found) -> str:
    speed = found["compare_speed"]
    rows = []
    for name, arm in speed["arms"].items():
        rate = arm["images_per_second"]
        rows.append(
            [
                f"`{name}`, {millions(arm['parameters'])}",
                count(rate[arm["better_plain"]]["median"]),
                count((rate["bare"]["median"] + rate["bare_again"]["median"]) / 2),
                count(rate["ours"]["median"]),
                percent(arm["ours_of_bare"]["median"], 0),
                f"{arm['ours_of_plain']['median']:.1f}",
            ]
        )
    return "\n\n".join(
        [
            "### A comparison's steps: plain PyTorch (PIL, DataLoader, float32)",
            table(["images a second", "plain", "bare steps", "ours", "of bare", "times plain"], rows),
            f"Batch {speed['batch']}, medians of {speed['rounds']} rounds; of 0 and 2 workers the better counts. "
            f"From {file('compare_speed')}.",
        ]
    )


def _nerfacto(found: Found) -> str:
    beside = found["fox_against_nerfacto"]
    peer, ours = beside["peer"], beside["ours"]
    rows = [
        [f"{mark} dB", duration(seconds * ratio), duration(seconds), f"{ratio:.0f}"]
        for mark, ratio in beside["times_fewer_seconds"].items()
        for seconds in [next(one["train_seconds"] for one in ours if one["psnr"] >= float(mark))]
    ]
    frame = [peer[-1]["frame_seconds"], ours[-1]["held_out_frame_seconds"]]
    rows.append(["a frame of 270×480", *(duration(one) for one in frame), f"{frame[0] / frame[1]:.0f}"])
    return "\n\n".join(
        [
            "### Radiance field: nerfstudio's nerfacto, the fox, every 8th photo held out",
            table(["time to", "nerfacto", "ours", "ratio"], rows),
            f"{beside['note']}. Between its marks nerfacto's seconds are interpolated, which favours it. The "
            "settings of our "
            "field were tried out on these held-out photos, so they flatter a little. From "
            f"{file('fox_against_nerfacto')}.",
        ]
    )


def _cutmix(found: Found) -> str:
    cut = found["cutmix_table"]
    rows = []
    for variant, both in cut["variants"].items():
        ours, theirs = both["ours"], both["library"]
        rows.append(
            [
                variant,
                f"{ours['mean_cut']:.3f}",
                f"{theirs['mean_cut']:.3f}" if theirs else "no package",
                percent(ours["more_than_half"]),
                percent(theirs["more_than_half"]) if theirs else "",
            ]
        )
    columns = ["variant", "mean share cut, ours", "the library", "more than half cut, ours", "the library"]
    libraries = ", ".join(f"{name} {version}" for name, version in cut["peers"].items())
    return "\n\n".join(
        [
            "### CutMix: what each library cuts",
            table(columns, rows),
            f"{count(cut['draws'])} boxes each at {cut['size']} px and α = {cut['alpha']:g}; {libraries}. From "
            f"{file('cutmix_table')}.",
        ]
    )
