"""From photos or a video of an object to a radiance field, its scores, and what can be made of it."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from nndl_suite.errors import ConfigError, RunError, unknown_name
from nndl_suite.nerf.evaluation import Evaluation, evaluate
from nndl_suite.nerf.export import Mesh, Region, extract_mesh, gather_points, save_mesh, save_point_cloud
from nndl_suite.nerf.field import Field, load_field
from nndl_suite.nerf.frame import Similarity, field_frame
from nndl_suite.nerf.outcome import result_fields, write_scene_file, write_views
from nndl_suite.nerf.path import CameraPath, PathKind, interpolate, orbit, read_path, spiral
from nndl_suite.nerf.photos import PosedPhotos, load_photos
from nndl_suite.nerf.readers import has_poses, read_scene
from nndl_suite.nerf.rendering import render_view
from nndl_suite.nerf.request import (
    Background,
    Budget,
    PosesFrom,
    ReconstructionSettings,
    check_source,
    fingerprint,
    settle_budget,
)
from nndl_suite.nerf.scene import Points, PoseReport, Scene, hold_out
from nndl_suite.nerf.sfm import SfmSettings, estimate_poses
from nndl_suite.nerf.trainer import TrainSettings, train_field
from nndl_suite.nerf.video import write_video
from nndl_suite.training.checkpoints import load_newest
from nndl_suite.training.fabric import Device
from nndl_suite.training.files import Json
from nndl_suite.training.runs import RunFolder, open_run, read_run
from nndl_suite.training.watch import Step, Watcher, ignore


class ColmapNerfReconstructor:
    """A reconstruction and its run folder.

    `fit` finds the poses if nobody has. Besides what every run holds, the folder has COLMAP's work in `poses/`, the
    held-out photos beside their renderings in `views/`, and cameras and sparse points in `scene.json`.
    """

    def __init__(  # noqa: PLR0913 - the public contract
        self,
        source: Path | str,
        *,
        out: Path | str,
        seed: int = 0,
        poses: PosesFrom = "auto",
        max_side: int | None = 480,
        holdout: Literal["every8"] | float = "every8",
        background: Background = "white",
        device: Device = "auto",
    ) -> None:
        """Check the request; nothing is read but names, and nothing is written.

        Args:
            source: A folder of photos, a video, or a scene that has poses (nerfstudio, Blender, COLMAP, LLFF).
            out: The run folder.
            seed: Decides the field's start and the rays of each step.
            poses: "given" insists on poses that came with the capture, "colmap" ignores them.
            max_side: Pixels on the longer side that photos are reduced to; None keeps their size.
            holdout: "every8", or the share of photos to keep for the score. Scenes that name test photos keep those.
            background: Behind photos with transparency.
            device: "cpu", or "auto".

        Raises:
            ConfigError: a setting is outside what it may be.
            CaptureError: the source is missing, empty, or neither photos nor a video.
        """
        self.settings = ReconstructionSettings(
            source=str(Path(source).resolve()),
            seed=seed,
            poses=poses,
            max_side=max_side,
            holdout=holdout,
            background=background,
            device=device,
        )
        self.out = Path(out)
        self._source = Path(source)
        self._run: RunFolder | None = None
        self._scores: Evaluation | None = None
        if not self._poses_file.exists():  # a run that has its poses has its photos too
            check_source(self._source, poses)

    @classmethod
    def open(cls, run: Path | str) -> "ColmapNerfReconstructor":
        """Come back to a run, to score, render or export it.

        Raises:
            RunError: there is no such run.
            CaptureError: the poses came with a capture that is not there any more.
        """
        folder = read_run(run, kind="nerf")
        asked = cast(dict[str, Any], folder.config()["settings"])
        settings = {name: value for name, value in asked.items() if name not in {"source", "files"}}
        scan = cls(asked["source"], out=folder.path, **settings)
        scan._run = folder
        return scan

    def estimate_poses(self, *, resume: bool = False, watch: Watcher = ignore) -> PoseReport:
        """Find where each photo was taken from, or read what came with the capture.

        Args:
            resume: Go on with the run that is in the folder.
            watch: Told of the progress.

        Raises:
            RunError: the folder holds a run and `resume` is off, or holds other files.
            CaptureError: too few photos could be placed.
        """
        self._begin(resume=resume)
        if not self._uses_colmap or self._poses_file.exists():
            return self.scene.poses
        estimate_poses(self._source, self.out / "poses", settings=SfmSettings(seed=self.settings.seed), watch=watch)
        return self.scene.poses

    def fit(
        self,
        *,
        minutes: float | None = None,
        steps: int | None = None,
        resume: bool = False,
        watch: Watcher = ignore,
    ) -> Evaluation:
        """Learn the field from all photos but the held-out ones, then score it on these.

        Args:
            minutes: Training time, without poses and scores.
            steps: Training steps; with `minutes` too, whichever ends first. Without both, 5 minutes.
            resume: Go on with the run that is in the folder; the budget it was started with need not be repeated.
            watch: Told of the progress.

        Raises:
            RunError: the folder holds a run and `resume` is off, or one with other settings or another budget.
            CaptureError: too few photos could be placed.
            Interrupted: somebody stopped the training; `resume` goes on.
        """
        if minutes is not None and not minutes > 0:
            raise ConfigError(f"minutes must be > 0, got {minutes}")
        if steps is not None and steps < 1:
            raise ConfigError(f"steps must be >= 1, got {steps}")
        started = time.monotonic()
        run = self._begin(resume=resume)
        self.estimate_poses(resume=True, watch=watch)
        budget = settle_budget(run, minutes, steps)
        before_training = time.monotonic() - started
        train, test = self.split
        write_scene_file(self.out / "scene.json", self.scene, self.field_from_world, test)
        photos = self._load(train, watch)
        train_field(photos, self._train_settings(budget), run, watch=watch)
        self.__dict__.pop("field", None)
        return self._score(before_training, watch)

    def evaluate(self, *, watch: Watcher = ignore) -> Evaluation:
        """Scores on the held-out photos, of the newest checkpoint; `fit` has them at hand.

        Writes `views/` and `result.json`.

        Raises:
            RunError: nothing has been trained yet.
        """
        return self._scores or self._score(0.0, watch)

    def render_orbit(
        self, path: Path | str, *, frames: int = 120, fps: float = 30, watch: Watcher = ignore
    ) -> CameraPath:
        """Render a video once round the object; `render_path` of "orbit"."""
        return self.render_path("orbit", path, frames=frames, fps=fps, watch=watch)

    def render_path(
        self,
        kind: PathKind | Path | str,
        path: Path | str,
        *,
        frames: int = 120,
        fps: float = 30,
        watch: Watcher = ignore,
    ) -> CameraPath:
        """Render a video along a camera path, with the size and lens of most training photos.

        Args:
            kind: "orbit", "interpolate", "spiral", or a camera-path file (see `path.read_path`).
            path: The .mp4 to write.
            frames: Length; a file has its own.
            fps: Frames a second.
            watch: Told of every frame.

        Returns:
            The path in the field frame; its description says where it went.

        Raises:
            ConfigError: an unknown kind of path, or a name that does not end in .mp4.
            DataError: the camera-path file is not one.
            RunError: nothing has been trained yet.
        """
        field = self.field
        cameras = self.field_from_world.apply_pose(self._poses(self.split[0]))
        travelled = self._camera_path(kind, cameras, frames)
        directions = _usual_directions(self._usual_photo())

        def pictures() -> Iterator[UInt8[np.ndarray, "h w 3"]]:
            for done, pose in enumerate(travelled.poses.astype(np.float32), start=1):
                yield _bytes(render_view(field, directions, pose).rgb)
                watch(Step(stage="rendering", done=done, total=len(travelled.poses)))

        write_video(pictures(), Path(path), fps=fps)
        return travelled

    def export_point_cloud(self, path: Path | str, *, watch: Watcher = ignore) -> None:
        """Write what the training cameras see of the object as a coloured .ply, in the capture's own frame.

        Raises:
            ConfigError: another suffix.
            CaptureError: the field shows no surface.
            RunError: nothing has been trained yet.
        """
        photos = self._load(self.split[0], watch)
        seen = gather_points(partial(render_view, self.field), photos, _region(photos), watch=watch)
        there = self.field_from_world.inverse().apply(seen.xyz)
        save_point_cloud(Points(xyz=there, rgb=seen.rgb), Path(path))

    def export_mesh(self, path: Path | str, *, resolution: int = 192, watch: Watcher = ignore) -> None:
        """Write the object's surface as a coloured .glb, .obj or .ply, in the capture's own frame.

        Args:
            path: The file to write.
            resolution: Grid points along each side of the cube about the object.
            watch: Told of the progress.

        Raises:
            ConfigError: another suffix, or a resolution below 8.
            CaptureError: the field holds no surface.
            RunError: nothing has been trained yet.
        """
        cameras = self.field_from_world.apply_pose(self._poses(self.split[0]))[:, :, 3]
        region = _region(self._usual_photo())
        mesh = extract_mesh(self.field.query, region, cameras=cameras, resolution=resolution, watch=watch)
        there = self.field_from_world.inverse().apply(mesh.vertices)
        save_mesh(Mesh(vertices=there, faces=mesh.faces, rgb=mesh.rgb), Path(path))

    @cached_property
    def scene(self) -> Scene:
        """The photos and their cameras.

        Raises:
            CaptureError: the poses have not been found yet.
        """
        return read_scene(self._poses_file.parent if self._uses_colmap else self._source)

    @cached_property
    def split(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Indices into `scene.views` to train on, and to score."""
        return hold_out(self.scene, self.settings.holdout)

    @cached_property
    def field_from_world(self) -> Similarity:
        """From the capture's own frame to the field's."""
        return field_frame(self.scene)

    @cached_property
    def field(self) -> Field:
        """The trained field.

        Raises:
            RunError: nothing has been trained yet.
        """
        if self._run is None:
            raise RunError(f"{self.out} has not been trained yet; call fit, or open a finished run")
        return load_field(self._run)

    @property
    def _poses_file(self) -> Path:
        """Written by COLMAP's part, last."""
        return self.out / "poses" / "poses.json"

    @property
    def _uses_colmap(self) -> bool:
        return self.settings.poses == "colmap" or (self.settings.poses == "auto" and not has_poses(self._source))

    def _begin(self, *, resume: bool) -> RunFolder:
        """The run folder, opened once: the steps of one object belong to one run."""
        if self._run is None:
            settings: dict[str, Json] = {**asdict(self.settings), "files": fingerprint(self._source)}
            self._run = open_run(self.out, kind="nerf", settings=settings, resume=resume)
        return self._run

    def _train_settings(self, budget: Budget) -> TrainSettings:
        return TrainSettings(
            seed=self.settings.seed,
            background=self.settings.background,
            steps=budget.steps,
            max_seconds=None if budget.minutes is None else 60 * budget.minutes,
        )

    def _poses(self, indices: tuple[int, ...]) -> Float64[np.ndarray, "n 3 4"]:
        return np.stack([self.scene.views[index].world_from_camera for index in indices])

    def _load(self, indices: tuple[int, ...], watch: Watcher = ignore) -> PosedPhotos:
        return load_photos(
            self.scene,
            indices,
            field_from_world=self.field_from_world,
            max_side=self.settings.max_side,
            watch=watch,
        )

    def _usual_photo(self) -> PosedPhotos:
        """One training photo, of the camera that took most of them."""
        of_camera = np.array([self.scene.views[index].camera for index in self.split[0]])
        usual = int(np.bincount(of_camera).argmax())
        return self._load((self.split[0][int(np.flatnonzero(of_camera == usual)[0])],))

    def _camera_path(self, kind: PathKind | Path | str, cameras: np.ndarray, frames: int) -> CameraPath:
        if kind == "orbit":
            return orbit(cameras, frames=frames)
        if kind == "spiral":
            return spiral(cameras, frames=frames)
        if kind == "interpolate":
            return interpolate(cameras, frames=frames)
        if Path(kind).suffix.lower() != ".json":
            raise unknown_name("path", str(kind), [*get_args(PathKind), "FILE.json"])
        read = read_path(Path(kind))
        return CameraPath(poses=self.field_from_world.apply_pose(read.poses), description=read.description)

    def _score(self, seconds_before: float, watch: Watcher) -> Evaluation:
        """Score the field, and write what there is to see and to know."""
        started = time.monotonic()
        field, run = self.field, self._begin(resume=True)
        checkpoint = load_newest(run.checkpoints)
        assert checkpoint is not None  # the field came from it
        photos = self._load(self.split[1], watch)
        scores = evaluate(field, photos, watch=watch)
        write_views(self.out / "views", scores)
        fields = result_fields(
            scores,
            checkpoint,
            self.scene.poses,
            train_images=len(self.split[0]),
            poses_source="colmap" if self._uses_colmap else "given",
        )
        seconds = seconds_before + checkpoint.seconds + time.monotonic() - started
        run.finish("nerf", seconds=seconds, seed=self.settings.seed, fields=fields)
        self._scores = scores
        return scores


def _usual_directions(photo: PosedPhotos) -> Float32[np.ndarray, "h w 3"]:
    height, width = photo.sizes[0]
    return photo.directions.reshape(height, width, 3)


def _region(photo: PosedPhotos) -> Region:
    """What every picture shows of the space about the object: cameras stand at distance 1 and look at it."""
    directions = _usual_directions(photo)
    height, width = directions.shape[:2]
    edges = directions[[0, height // 2], [width // 2, 0]]  # the middles of the upper and the left edge
    slopes = np.linalg.norm(edges[:, :2], axis=-1) / np.maximum(edges[:, 2], 1e-6)
    return Region(centre=np.zeros(3), radius=float(min(slopes.min(), 0.8)))


def _bytes(image: Float32[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    return (image * 255 + 0.5).clip(0, 255).astype(np.uint8)
