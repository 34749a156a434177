"""Valid inputs of every kind, small, made here; what is fuzzed is what is made of them."""

import io
import json
import tarfile
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import made_runs
import made_studies
import numpy as np
import pillow_heif
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from nndl_suite.data.shard_index import write_index
from nndl_suite.models.backbones import build_backbone
from nndl_suite.models.normalisation import Normalisation
from nndl_suite.models.weights import save_backbone
from nndl_suite.nerf.field import FieldSettings, new_field
from nndl_suite.nerf.frame import FieldFrame, Similarity, write_frame
from nndl_suite.training.checkpoints import Checkpoint, save_checkpoint
from nndl_suite.training.runs import open_run


def picture(seed: int = 0, size: tuple[int, int] = (32, 24)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def photos(folder: Path, names: list[str]) -> None:
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(seed).save(folder / name)


def _pose(number: int) -> np.ndarray:
    """On a ring, looking at its middle; OpenGL axes."""
    angle = 0.9 * number
    centre = np.array([4 * np.cos(angle), 4 * np.sin(angle), 1.0])
    back = centre / np.linalg.norm(centre)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.column_stack([right, np.cross(back, right), back, centre])
    return pose


NAMES = [f"images/{number}.png" for number in range(4)]


def transforms(folder: Path) -> None:
    photos(folder, [*NAMES, "masks/0.png"])
    frames = [{"file_path": name, "transform_matrix": _pose(n).tolist()} for n, name in enumerate(NAMES)]
    frames[0]["mask_path"] = "masks/0.png"
    frames[1] |= {"fl_x": 40.0, "w": 32, "h": 24}
    content = {"camera_model": "OPENCV", "w": 32, "h": 24, "fl_x": 30.0, "fl_y": 31.0, "cx": 16.5, "cy": 11.5}
    content |= {"aabb_scale": 16, "applied_transform": np.eye(4)[:3].tolist()}
    (folder / "transforms.json").write_text(json.dumps({**content, "frames": frames}))


def blender(folder: Path) -> None:
    for first, split in ((0, "train"), (3, "test")):
        names = [f"./{split}/r_{n}" for n in range(3)]
        photos(folder, [f"{name}.png" for name in names])
        frames = [
            {"file_path": name, "rotation": 0.01, "transform_matrix": _pose(first + n).tolist()}
            for n, name in enumerate(names)
        ]
        content = {"camera_angle_x": 0.7, "frames": frames}
        (folder / f"transforms_{split}.json").write_text(json.dumps(content))


def llff(folder: Path) -> None:
    photos(folder, NAMES)
    rows = []
    for number in range(len(NAMES)):
        pose = _pose(number)  # right, up, back -> down, right, back
        matrix = np.column_stack([-pose[:3, 1], pose[:3, 0], pose[:3, 2], pose[:3, 3], [24, 32, 30.0]])
        rows.append(np.concatenate([matrix.ravel(), [0.5, 9.0]]))
    np.save(folder / "poses_bounds.npy", np.array(rows))


def colmap_text(folder: Path) -> None:
    photos(folder, NAMES)
    model = folder / "sparse" / "0"
    model.mkdir(parents=True)
    (model / "cameras.txt").write_text("# cameras\n1 OPENCV 32 24 30.0 31.0 16.0 12.0 0.01 0.0 0.0 0.0\n")
    images, points = "", "# points\n"
    for number, name in enumerate(NAMES, start=1):
        world_from_camera = _pose(number)[:3] @ np.diag([1.0, -1.0, -1.0, 1.0])
        rotation = world_from_camera[:, :3].T
        x, y, z, w = Rotation.from_matrix(rotation).as_quat()
        tx, ty, tz = -rotation @ world_from_camera[:, 3]
        images += f"{number} {w} {x} {y} {z} {tx} {ty} {tz} 1 {name.removeprefix('images/')}\n"
        images += "".join(f"{3.0 * p + number} {2.0 * p + 5} {p} " for p in range(1, 5)).strip() + "\n"
    for p in range(1, 5):
        track = " ".join(f"{number} {p - 1}" for number in range(1, 5))
        points += f"{p} {0.1 * p} {0.2 * p} 0.1 200 100 {p} 0.5 {track}\n"
    (model / "images.txt").write_text("# images\n" + images)
    (model / "points3D.txt").write_text(points)


def colmap_binary(folder: Path) -> None:
    """The text model as COLMAP itself writes it in binary, in a process of its own."""
    import subprocess  # noqa: PLC0415
    import sys  # noqa: PLC0415

    colmap_text(folder)
    model = folder / "sparse" / "0"
    program = "import zlib, sys, pycolmap; m = pycolmap.Reconstruction(sys.argv[1]); m.write_binary(sys.argv[1])"
    subprocess.run([sys.executable, "-c", program, str(model)], check=True, capture_output=True)
    for file in model.glob("*.txt"):
        file.unlink()


def arrays(folder: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 9, 8, 3), dtype=np.uint8)
    names = np.array(["cat", "dog", "eel"])
    np.savez(folder / "set.npz", images=images, labels=np.arange(12) % 3, class_names=names)


def folders(folder: Path) -> None:
    for number in range(10):
        suffix = ("png", "jpg", "webp", "tiff", "gif", "bmp", "ppm")[number % 7]
        photos(folder, [f"{'cat' if number % 2 else 'dog'}/{number}.{suffix}"])


def tar(folder: Path) -> None:
    with tarfile.open(folder / "images-000000.tar", "w") as out:
        for number in range(8):
            content = io.BytesIO()
            picture(number).save(content, "PNG" if number % 2 else "JPEG")
            label = json.dumps({"label": number % 3}).encode() if number % 2 else str(number % 3).encode()
            files = {("png" if number % 2 else "jpg"): content.getvalue(), ("json" if number % 2 else "cls"): label}
            for suffix, body in files.items():
                member = tarfile.TarInfo(f"{'long/' * 25 if number == 3 else ''}{number:04d}.{suffix}")
                member.size = len(body)
                out.addfile(member, io.BytesIO(body))
    (folder / "classes.txt").write_text("cat\ndog\neel\n")


def indexed_tar(folder: Path) -> None:
    tar(folder)
    write_index(folder / "images-000000.tar")


def video(folder: Path) -> None:
    with av.open(str(folder / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(10))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(12):
            small = picture(number, (8, 6)).resize((64, 48), Image.Resampling.NEAREST)
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.asarray(small), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def image(folder: Path, suffix: str) -> None:
    """One photo, of the kind that its suffix says."""
    pixels, file = picture(1, (40, 30)), folder / f"photo.{suffix}"
    if suffix == "heic":
        pillow_heif.from_pillow(pixels).save(file)
    elif suffix == "png":
        grey = np.random.default_rng(2).integers(0, 65536, (30, 40)).astype(np.uint16)
        Image.fromarray(grey).save(file)
    elif suffix in ("jpg", "tif"):
        exif = Image.Exif()
        exif[0x0110], exif[0x0112] = "A phone", 6
        exif.get_ifd(0x8769)[0xA405] = 28
        pixels.save(file, exif=exif)
    else:
        pixels.save(file)


def path_json(folder: Path) -> None:
    cameras = [{"camera_to_world": _pose(n).ravel().tolist(), "fov": 50.0, "aspect": 1.5} for n in range(3)]
    content = {"camera_type": "perspective", "render_width": 48, "render_height": 32, "fps": 24, "seconds": 1}
    (folder / "path.json").write_text(json.dumps({**content, "camera_path": cameras}))


def nerf_run(folder: Path) -> None:
    """A reconstruction with a field, refined cameras and a frame."""
    made_runs.nerf(folder)
    run = folder / "can"
    (folder / "capture").mkdir()
    transforms(folder / "capture")
    settings = {"source": str(folder / "capture"), "seed": 0, "poses": "auto", "max_side": 32, "holdout": "every8"}
    settings |= {"background": "white", "video_frames": 100, "refine_poses": "no", "files": "x"}
    (run / "config.json").write_text(json.dumps({"kind": "nerf", "settings": settings, "versions": {}, "machine": {}}))
    (run / "budget.json").write_text(json.dumps({"minutes": None, "steps": 20}))
    cameras = [{"name": name, "world_from_camera": np.eye(4)[:3].tolist()} for name in NAMES]
    (run / "poses_refined.json").write_text(json.dumps({"frame": "x", "axes": "y", "cameras": cameras}))
    frame = Similarity(scale=0.25, rotation=np.eye(3), translation=np.array([0.1, 0.0, 0.0]))
    write_frame(run / "frame.json", FieldFrame(field_from_world=frame, bound=1.5))
    field = new_field(FieldSettings(log2_rows=8, finest=16), 0)
    state = {"field": field.state(), "figures": {1: [1.0, 2.0], "a": None}, "name": "x"}
    save_checkpoint(run / "checkpoints", Checkpoint(step=20, seconds=3.5, state=state))
    (run / "metrics.jsonl").write_text(
        "".join(json.dumps({"step": n, "seconds": n / 10, "loss": 1 / n, "psnr": 20.0 + n}) + "\n" for n in range(1, 9))
    )


def run_of(kind: str, folder: Path) -> Path:
    """A finished run; its metrics are cut to a few lines."""
    run = _MAKERS[kind](folder)
    log = run / "metrics.jsonl"
    if log.is_file():
        log.write_text("".join(log.read_text().splitlines(keepends=True)[:12]))
    return run


def _training(folder: Path) -> Path:
    run = open_run(folder / "net", kind="training", settings={"epochs": 2}, resume=False)
    for epoch in range(1, 5):
        run.log({"step": 10 * epoch, "seconds": 1.5 * epoch, "loss": 1 / epoch, "epoch": epoch, "val_accuracy": 0.2})
    fields = {
        "arm": "resnet18",
        "dataset": "cifar10",
        "parameters": 11_000_000,
        "epochs": 4,
        "test_accuracy": 0.9,
        "test_accuracy_ci95": [0.89, 0.91],
        "train_accuracy": 0.95,
        "images_per_second": 900.0,
        "recipe": {"test_mirrored": True},
        "chosen": {"rate": 0.01},
        "weights": "weights.safetensors",
    }
    run.finish("training", seconds=10, seed=0, fields=fields)
    return run.path


_MAKERS = {
    "probe": made_runs.probe,
    "pretrain": made_runs.pretrain,
    "comparison": made_runs.comparison,
    "nerf": made_runs.nerf,
    "study": made_studies.study,
    "scale": made_studies.scale,
    "sweep": made_studies.sweep,
    "tuning": made_studies.tuning,
    "training": _training,
}


def tuned_runs(folder: Path) -> None:
    """Two tunings; `read_tuned` is given stand-ins that fit them."""
    for arm in ("cnn", "vit"):
        run = open_run(folder / arm, kind="tuning", settings={}, resume=False)
        fields = {
            "arm": arm,
            "shape": "a shape",
            "dataset": "noise",
            "best": {"number": 3, "settings": {"rate": 0.002}, "val_accuracy": 0.5},
            "budget": {"trials": 20, "epochs": 10},
            "space": {"rate": {"low": 1e-4, "high": 1e-2, "log": True}, "decay": {"values": [0, 0.1]}},
            "recipe": {"batch_size": 10, "rates": {"rate": 0.001, "decay": 0.05}},
            "fingerprints": ["a", "b"],
            "at_edge": ["rate"],
        }
        run.finish("tuning", seconds=1, seed=0, fields=fields)


def recipe(folder: Path) -> None:
    content = {
        "like": "speed",
        "batch_size": 64,
        "rates": {"rate": 0.001, "decay": 0.01},
        "cnn": None,
        "resolutions": [[0.0, 20], [0.5, 32]],
        "mean": [0.5, 0.5, 0.5],
        "std": [0.2, 0.2, 0.2],
        "clip_norm": 1.0,
        "optimiser": "adamw",
    }
    (folder / "recipe.json").write_text(json.dumps(content))


@cache
def _slim() -> tuple[bytes, bytes, bytes]:
    """A slim ResNet as our safetensors file, as torch's zip and as torch's older pickle."""
    import tempfile  # noqa: PLC0415

    torch.manual_seed(0)
    backbone = build_backbone("resnet18-slim", image_size=8)
    with tempfile.TemporaryDirectory() as place:
        ours = Path(place) / "weights.safetensors"
        normalisation = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
        save_backbone(ours, backbone, image_size=8, normalisation=normalisation)
        written = [ours.read_bytes()]
        for zipped in (True, False):
            torch.save(backbone.trunk.state_dict(), Path(place) / "w.pth", _use_new_zipfile_serialization=zipped)
            written.append((Path(place) / "w.pth").read_bytes())
    return written[0], written[1], written[2]


def weights(folder: Path, kind: int) -> None:
    """`kind` counts in `_slim`."""
    (folder / ("weights.safetensors", "weights.pth", "weights.pt")[kind]).write_bytes(_slim()[kind])


def pretrain_run(folder: Path) -> None:
    run = made_runs.pretrain(folder)
    (run / "metrics.jsonl").write_text('{"step": 1, "seconds": 0.1, "loss": 3.0}\n{"step": 2, "loss": 2.0}\n')
    weights(run, 0)


def predictions(folder: Path) -> None:
    np.savez(folder / "predictions.npz", predicted=np.arange(9) % 3, labels=np.arange(9) % 2)
