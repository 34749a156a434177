"""The readers: how a valid input of each is made, what of it is made wrong, how it is read, and what must then hold."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import md5
from pathlib import Path
from pickle import dumps  # CIFAR's own format; its reader is under test
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import valid_inputs as valid
from fuzz_mutations import Mutation, mutate_bytes, mutate_json, mutate_lines, mutate_text

from nndl_suite.comparison.recipe import Recipe
from nndl_suite.comparison.recipes import load_recipe
from nndl_suite.comparison.tuned import read_tuned
from nndl_suite.data import benchmarks
from nndl_suite.data.catalog import load_image_set
from nndl_suite.errors import DataError
from nndl_suite.nerf.capture import prepare_capture
from nndl_suite.nerf.clip import sharpest_frames
from nndl_suite.nerf.decode import UNREADABLE, as_8_bit, open_photo, reason
from nndl_suite.nerf.field import load_field
from nndl_suite.nerf.frame import field_frame, read_frame
from nndl_suite.nerf.masks import read_mask
from nndl_suite.nerf.path_file import read_path
from nndl_suite.nerf.photos import load_photos
from nndl_suite.nerf.readers import read_scene
from nndl_suite.nerf.reconstructor import ColmapNerfReconstructor
from nndl_suite.nerf.refined_poses import with_refined_poses
from nndl_suite.nerf.request import settle_budget
from nndl_suite.report.page import write_report
from nndl_suite.representation.features import load_feature_source
from nndl_suite.training.checkpoints import load_newest
from nndl_suite.training.predictions import read_predictions
from nndl_suite.training.runs import RunFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One reader."""

    name: str
    make: Callable[[Path], object]
    """Write a valid input into an empty folder."""
    read: Callable[[Path], object]
    """Read it, and check that what came is what may come."""
    wrong: tuple[tuple[str, Mutation], ...]
    """Files, by their place in the folder, and how each is made wrong."""
    cost: float = 1.0
    """About how long it takes beside the others; the slow ones get fewer inputs."""


def spoil(target: Target, folder: Path, random: Random) -> Path:
    """Make one file of a valid input wrong; return which."""
    name, mutation = random.choice(target.wrong)
    file = folder / name
    file.write_bytes(mutation(file.read_bytes(), random))
    return file


def names_it(message: str, file: Path, folder: Path) -> bool:
    """Whether a message names the file, or the folder in which to look for it."""
    inner = file.parent != folder and file.parent.name in message
    return file.name in message or str(folder) in message or inner


def _finite(*arrays: Any) -> None:
    for array in arrays:
        assert np.isfinite(np.asarray(array, dtype=np.float64)).all(), "numbers that are not finite were taken"


def _scene(folder: Path) -> None:
    """As a reconstruction reads it: the scene, its frame, and photos with rays."""
    scene = read_scene(folder)
    assert len({view.name for view in scene.views}) == len(scene.views), "two views of one name"
    for camera in scene.cameras:
        assert min(camera.params[: camera.num_focals], default=1) > 0
        assert camera.width >= 1 <= camera.height
        _finite(camera.params)
    for view in scene.views:
        rotation = view.world_from_camera[:, :3]
        assert np.allclose(rotation @ rotation.T, np.eye(3), atol=5e-3), "a rotation that is none was taken"
    frame = field_frame(scene)
    _finite(frame.scale, frame.rotation, frame.translation)
    photos = load_photos(scene, range(len(scene.views)), field_from_world=frame, max_side=32)
    _finite(photos.directions, photos.field_from_camera)
    assert np.allclose(np.linalg.norm(photos.directions, axis=1), 1, atol=1e-4)


def _images(name: Callable[[Path], str], size: int | None = 8) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        images = load_image_set(name(folder), "train", image_size=size, data_root=folder)
        assert len(images) > 0
        pixels = images.store.read(torch.arange(len(images)))
        assert pixels.shape[1:] == (3, images.image_size, images.image_size)
        if images.labels is not None:
            assert 0 <= int(images.labels.min()) <= int(images.labels.max()) < images.num_classes
        "".join(images.class_names).encode()

    return read


def _photo(folder: Path) -> None:
    """A photo in a capture and alone in a set, and a mask."""
    (file,) = folder.glob("photo.*")
    try:
        with open_photo(file) as opened:
            image = as_8_bit(opened)
        assert min(image.size) >= 1
    except UNREADABLE as error:
        raise DataError(f"{file}: {reason(error, file)}") from error
    finally:
        if file.suffix != ".heic":
            _quietly(lambda: load_image_set(f"folder:{folder}", "unlabelled", image_size=8))
        _quietly(lambda: read_mask(file, (40, 30), 1))
    work = folder / "work"
    for number in range(4):
        valid.picture(number + 5, (40, 30)).save(folder / f"more{number}.png")
    prepare_capture(folder, work, masks=folder / "work-masks", max_side=64, video_frames=5)


def _quietly(read: Callable[[], object]) -> None:
    with suppress(DataError):
        read()


def _video(folder: Path) -> None:
    frames = [pixels for _, pixels in sharpest_frames(folder / "clip.mp4", 4)]
    assert frames
    assert all(pixels.ndim == 3 and pixels.size for pixels in frames)


def _path(folder: Path) -> None:
    path = read_path(folder / "path.json")
    _finite(path.poses)
    assert path.size is None or min(path.size) >= 1
    assert path.fps is None or path.fps > 0


def _open_reconstruction(folder: Path) -> None:
    scan = ColmapNerfReconstructor.open(folder / "can")
    settle_budget(RunFolder(folder / "can"), None, None)
    moved = with_refined_poses(scan.scene, folder / "can" / "poses_refined.json")
    frame = read_frame(folder / "can" / "frame.json")
    assert frame.field_from_world.scale > 0
    _finite(*(view.world_from_camera for view in moved.views), frame.field_from_world.rotation)
    _finite(frame.field_from_world.translation, frame.bound or 0)


def _checkpoint(folder: Path) -> None:
    found = load_newest(folder / "can" / "checkpoints")
    assert found is not None
    assert found.step >= 0
    _finite(found.seconds)
    field = load_field(RunFolder(folder / "can"))
    assert field.table.shape == (field.layout.rows, 2)


def _report(folder: Path) -> None:
    runs = [path.parent for path in sorted(folder.glob("*/config.json"))] or [folder / "gone"]
    page = write_report(runs, folder / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "nan %" not in page


def _features(spec: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        images = SimpleNamespace(image_size=8)
        source = load_feature_source(folder / spec, images, backbone="resnet18-slim", stem="cifar")  # pyright: ignore[reportArgumentType]
        _finite(source.normalisation.mean, source.normalisation.std)
        assert min(source.normalisation.std) > 0
        assert 1 <= source.resolution <= 2048

    return read


def _tuned(folder: Path) -> None:
    arms = (SimpleNamespace(name="cnn", shape="a shape"), SimpleNamespace(name="vit", shape="a shape"))
    splits = SimpleNamespace(train=SimpleNamespace(fingerprint="a"), val=SimpleNamespace(fingerprint="b"))
    found = read_tuned([folder / "cnn", folder / "vit"], arms, splits, Recipe())  # pyright: ignore[reportArgumentType]
    _finite(*(value for arm in found.arms for value in (arm.rates.rate, arm.rates.decay, arm.val_accuracy)))


def _tuned_make(folder: Path) -> None:
    """The recipe of both must be the comparison's."""
    from dataclasses import asdict  # noqa: PLC0415
    from json import dumps as to_json  # noqa: PLC0415
    from json import loads  # noqa: PLC0415

    valid.tuned_runs(folder)
    for file in folder.glob("*/result.json"):
        file.write_text(to_json({**loads(file.read_text()), "recipe": asdict(Recipe())}))


def _recipe(folder: Path) -> None:
    recipe = load_recipe(str(folder / "recipe.json"))
    _finite(recipe.rates.rate, recipe.rates.decay, recipe.mean or 0, recipe.std or 1, recipe.label_smoothing)


def _cifar_make(folder: Path) -> None:
    """Small batches in CIFAR's own form; the checksums that torchvision knows are replaced by theirs when reading."""
    base = folder / "cifar-100-python"
    base.mkdir()
    for name, count in (("train", 10), ("test", 5)):
        data = np.random.default_rng(0).integers(0, 256, (count, 3072), dtype=np.uint8)
        (base / name).write_bytes(dumps({"data": data, "fine_labels": list(range(count))}, protocol=2))
    (base / "meta").write_bytes(dumps({"fine_label_names": [str(n) for n in range(10)]}, protocol=2))
    sums = {file.name: md5(file.read_bytes()).hexdigest() for file in base.iterdir()}
    (folder / "sums.txt").write_text("\n".join(f"{name} {told}" for name, told in sums.items()))


class Offline:
    """A CIFAR-100 of torchvision's that knows other checksums and has no network."""

    def __init__(self, folder: Path) -> None:
        sums = dict(line.split() for line in (folder / "sums.txt").read_text().splitlines())

        class Small(benchmarks.datasets.CIFAR100):
            train_list = [["train", sums["train"]]]  # noqa: RUF012 - torchvision's own manner
            test_list = [["test", sums["test"]]]  # noqa: RUF012
            meta = {"filename": "meta", "key": "fine_label_names", "md5": sums["meta"]}  # noqa: RUF012

            def download(self) -> None:
                if not self._check_integrity():
                    raise RuntimeError("no network here")

        self.source = Small


def _cifar(folder: Path) -> None:
    images = benchmarks._read_cifar("cifar100", Offline(folder).source, folder, "train", None, lambda _: None)
    assert len(images) == 10


def _fresh(mutation: Mutation, *names: str) -> tuple[tuple[str, Mutation], ...]:
    return tuple((name, mutation) for name in names)


_JSON_OF_RUN = ("config.json", "result.json")


def _report_target(kind: str, run: str, *more: tuple[str, Mutation]) -> Target:
    wrong = [*_fresh(mutate_json, f"{run}/result.json", f"{run}/result.json", f"{run}/config.json"), *more]
    return Target(
        name=f"report of a {kind} run",
        make=lambda folder: valid.run_of(kind, folder),
        read=_report,
        wrong=tuple(wrong),
        cost=6,
    )


_MODEL = "sparse/0/"
TARGETS: tuple[Target, ...] = (
    Target(
        name="transforms.json",
        make=valid.transforms,
        read=_scene,
        wrong=_fresh(mutate_json, "transforms.json"),
        cost=1.5,
    ),
    Target(
        name="Blender's JSON",
        make=valid.blender,
        read=_scene,
        wrong=_fresh(mutate_json, "transforms_train.json", "transforms_test.json"),
        cost=1.5,
    ),
    Target(
        name="poses_bounds.npy",
        make=valid.llff,
        read=_scene,
        wrong=_fresh(mutate_bytes, "poses_bounds.npy"),
        cost=1.5,
    ),
    Target(
        name="COLMAP binary",
        make=valid.colmap_binary,
        read=_scene,
        wrong=_fresh(
            mutate_bytes, *(f"{_MODEL}{name}.bin" for name in ("cameras", "images", "points3D", "rigs", "frames"))
        ),
        cost=60,
    ),
    Target(
        name="COLMAP text",
        make=valid.colmap_text,
        read=_scene,
        wrong=_fresh(mutate_text, *(f"{_MODEL}{name}.txt" for name in ("cameras", "images", "points3D"))),
        cost=60,
    ),
    Target(
        name="arrays .npz",
        make=valid.arrays,
        read=_images(lambda folder: f"arrays:{folder / 'set.npz'}"),
        wrong=_fresh(mutate_bytes, "set.npz"),
    ),
    Target(
        name="class folders",
        make=valid.folders,
        read=_images(lambda folder: f"folder:{folder}"),
        wrong=_fresh(
            mutate_bytes, "cat/1.jpg", "dog/0.png", "dog/2.webp", "cat/3.tiff", "dog/4.gif", "cat/5.bmp", "dog/6.ppm"
        ),
    ),
    *(
        Target(
            name=f"photo .{suffix}",
            make=lambda folder, suffix=suffix: valid.image(folder, suffix),
            read=_photo,
            wrong=_fresh(mutate_bytes, f"photo.{suffix}"),
        )
        for suffix in ("jpg", "png", "heic", "tif", "webp")
    ),
    Target(name="video", make=valid.video, read=_video, wrong=_fresh(mutate_bytes, "clip.mp4"), cost=2),
    Target(name="camera path", make=valid.path_json, read=_path, wrong=_fresh(mutate_json, "path.json")),
    Target(
        name="reconstruction run",
        make=valid.nerf_run,
        read=_open_reconstruction,
        wrong=_fresh(mutate_json, *(f"can/{name}.json" for name in ("config", "frame", "poses_refined", "budget"))),
    ),
    Target(
        name="checkpoint",
        make=valid.nerf_run,
        read=_checkpoint,
        wrong=_fresh(mutate_bytes, "can/checkpoints/step-000000020.safetensors"),
        cost=3,
    ),
    Target(
        name="weights .safetensors",
        make=lambda folder: valid.weights(folder, 0),
        read=_features("weights.safetensors"),
        wrong=_fresh(mutate_bytes, "weights.safetensors"),
        cost=5,
    ),
    Target(
        name="weights .pth",
        make=lambda folder: valid.weights(folder, 1),
        read=_features("weights.pth"),
        wrong=_fresh(mutate_bytes, "weights.pth"),
        cost=5,
    ),
    Target(
        name="weights .pt, torch's older form",
        make=lambda folder: valid.weights(folder, 2),
        read=_features("weights.pt"),
        wrong=_fresh(mutate_bytes, "weights.pt"),
        cost=5,
    ),
    Target(
        name="pretraining run as features",
        make=valid.pretrain_run,
        read=_features("simclr"),
        wrong=_fresh(mutate_json, *(f"simclr/{name}" for name in _JSON_OF_RUN)),
        cost=5,
    ),
    Target(
        name="shard tar",
        make=valid.tar,
        read=_images(lambda folder: f"wds:{folder}"),
        wrong=_fresh(mutate_bytes, "images-000000.tar", "images-000000.tar", "images-000000.tar", "classes.txt"),
    ),
    Target(
        name="shard index",
        make=valid.indexed_tar,
        read=_images(lambda folder: f"wds:{folder}"),
        wrong=_fresh(mutate_bytes, "images-000000.tar.index.npz"),
    ),
    Target(
        name="predictions.npz",
        make=valid.predictions,
        read=lambda folder: _finite(read_predictions(folder).predicted),
        wrong=_fresh(mutate_bytes, "predictions.npz"),
    ),
    Target(name="recipe", make=valid.recipe, read=_recipe, wrong=_fresh(mutate_json, "recipe.json")),
    Target(
        name="tuned runs",
        make=_tuned_make,
        read=_tuned,
        wrong=_fresh(mutate_json, "cnn/result.json", "vit/result.json", "cnn/config.json"),
    ),
    Target(
        name="CIFAR's pickles",
        make=_cifar_make,
        read=_cifar,
        wrong=_fresh(mutate_bytes, *(f"cifar-100-python/{name}" for name in ("train", "meta"))),
    ),
    _report_target("probe", "probe"),
    _report_target("pretrain", "simclr", ("simclr/metrics.jsonl", mutate_lines)),
    _report_target("training", "net", ("net/metrics.jsonl", mutate_lines)),
    _report_target("comparison", "cmp", ("cmp/arms/vit-seed0/metrics.jsonl", mutate_lines)),
    _report_target("nerf", "can", ("can/scene.json", mutate_json), ("can/views/003-photo.jpg", mutate_bytes)),
    _report_target("tuning", "tune-vit"),
    _report_target("study", "study", ("study/embedding.json", mutate_json)),
    _report_target("scale", "scale"),
    _report_target("sweep", "sweep"),
)
