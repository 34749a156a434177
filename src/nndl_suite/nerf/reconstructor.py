"""From photos or a video of an object to a radiance field, its scores, and what can be made of it."""

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch

from nndl_suite.data.catalog import default_data_root
from nndl_suite.errors import CaptureError, ConfigError, RunError
from nndl_suite.nerf.arrays import PhotoArrays, photo_arrays
from nndl_suite.nerf.evaluation import Evaluation, evaluate, evenly_spaced
from nndl_suite.nerf.export import MAX_FACES, Mesh
from nndl_suite.nerf.export_frame import ExportFrame, moved, out_of_field
from nndl_suite.nerf.field import FieldSettings, load_field
from nndl_suite.nerf.filming import Quality, What
from nndl_suite.nerf.frame import FieldFrame, Similarity, field_frame, read_frame, write_frame
from nndl_suite.nerf.gpu.chosen import choose_device, lacks, name_of
from nndl_suite.nerf.gpu.field import place_field
from nndl_suite.nerf.gpu.trainer import gpu_settings, train_field_on
from nndl_suite.nerf.hull import object_field, object_frame
from nndl_suite.nerf.lpips import Lpips, NoLpips, find_lpips
from nndl_suite.nerf.make_surface import make_cloud, make_mesh
from nndl_suite.nerf.make_video import Wanted, make_video
from nndl_suite.nerf.nearest import nearest_surface
from nndl_suite.nerf.outcome import Scores, result_fields, write_scene_file, write_views
from nndl_suite.nerf.path import CameraPath, PathKind
from nndl_suite.nerf.photos import PosedPhotos, load_photos
from nndl_suite.nerf.readers import has_poses, read_scene
from nndl_suite.nerf.refined_poses import with_refined_poses, write_refined_poses
from nndl_suite.nerf.refinement import refined_poses
from nndl_suite.nerf.refitting import refit_poses
from nndl_suite.nerf.rendering import AnyField
from nndl_suite.nerf.request import (
    Background,
    Budget,
    Choice,
    PosesFrom,
    ReconstructionSettings,
    check_source,
    fingerprint,
    settle_budget,
)
from nndl_suite.nerf.scene import PoseReport, Scene, hold_out, stacked_poses, usual_view
from nndl_suite.nerf.sfm import SfmSettings, estimate_poses
from nndl_suite.nerf.surface_files import (
    MESH_SUFFIXES,
    POINT_CLOUD_SUFFIXES,
    Y_UP,
    check_suffix,
    save_mesh,
    save_point_cloud,
)
from nndl_suite.nerf.trainer import TrainSettings, train_field
from nndl_suite.nerf.turn import write_turn
from nndl_suite.nerf.write_cameras import write_colmap_text, write_transforms
from nndl_suite.training.checkpoints import Checkpoint, State, load_newest
from nndl_suite.training.environment import Spread
from nndl_suite.training.fabric import Device, join_fabric
from nndl_suite.training.files import Json, check_place
from nndl_suite.training.locks import held, only_writer
from nndl_suite.training.processes import from_first, one_falls_all_fall
from nndl_suite.training.runs import RunFolder, open_run, read_run
from nndl_suite.training.watch import Watcher, ignore

_POSE_RATE = 1e-3
"""Of cameras that may move: degrees are made up for within some hundred steps, and exact poses stay near."""
_MOST_SCORED_TRAINING = 8
"""Training photos that are scored too, to tell the gap to the held-out ones: a few say it."""

_FRAME_FILE = "frame.json"


class ColmapNerfReconstructor:
    """A reconstruction and its run folder.

    `fit` finds the poses if nobody has. Besides what every run holds, the folder has COLMAP's work in `poses/`, the
    held-out photos beside their renderings in `views/`, a small turn round the object in `turn.jpg`, and cameras and
    sparse points in `scene.json`.
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
        video_frames: int = 100,
        refine_poses: Choice = "no",
        device: Device = "auto",
        data_root: Path | str | None = None,
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
            video_frames: About how many frames of a video are used.
            refine_poses: "yes" lets training move its cameras a little, for poses that are off by a pixel or more. Each
                held-out pose is then refitted on the left half of its photo, and scored on the right half alone.
            device: "cuda", or "cpu", which "auto" takes: on CUDA learning is far faster, but so far shows held-out
                photos worse. A run may change its device between sittings; bits repeat on the CPU alone.
            data_root: Where LPIPS finds its weights (see `lpips.find_lpips`); else `NNDL_SUITE_DATA`, else the user's
                cache.

        Raises:
            ConfigError: a setting is outside what it may be.
            CaptureError: the source is missing, empty, or neither photos nor a video.
        """
        self.settings = ReconstructionSettings(
            source=os.path.realpath(source),  # Path.resolve fails on links that go round in circles
            seed=seed,
            poses=poses,
            max_side=max_side,
            holdout=holdout,
            background=background,
            video_frames=video_frames,
            refine_poses=refine_poses,
            device=device,
        )
        self.out = Path(out)
        self._data_root = default_data_root(data_root)
        self._source = Path(source)
        self._run: RunFolder | None = None
        self._scores: Evaluation | None = None
        if not self._poses_file.exists():  # a run that has its poses has its photos too
            check_source(self._source, poses)

    @classmethod
    def open(
        cls, run: Path | str, *, device: Device = "auto", data_root: Path | str | None = None
    ) -> "ColmapNerfReconstructor":
        """Come back to a run, to score, render or export it, on whichever device.

        Raises:
            RunError: there is no such run.
            CaptureError: the poses came with a capture that is not there any more.
        """
        folder = read_run(run, kind="nerf")
        try:
            asked = cast(dict[str, Any], folder.config()["settings"])
            settings = {name: value for name, value in asked.items() if name not in {"source", "files", "device"}}
            scan = cls(asked["source"], out=folder.path, device=device, data_root=data_root, **settings)
        except CaptureError as error:
            raise CaptureError(f"{folder.path}: {error}") from error
        except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:  # ConfigError is the last
            file = folder.path / "config.json"
            raise RunError(f"{file} is no reconstruction's ({error}); train into another --out") from error
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
        settings = SfmSettings(seed=self.settings.seed, video_frames=self.settings.video_frames)
        with held(self.out):
            estimate_poses(self._source, self.out / "poses", settings=settings, watch=watch)
        return self.scene.poses

    def fit(
        self,
        *,
        minutes: float | None = None,
        steps: int | None = None,
        devices: int = 1,
        nodes: int = 1,
        resume: bool = False,
        watch: Watcher = ignore,
    ) -> Evaluation:
        """Learn the field from all photos but the held-out ones, then score it on these.

        Args:
            minutes: Training time, without poses and scores.
            steps: Training steps; with `minutes` too, whichever ends first. Without both, 5 minutes.
            devices: Processes on each machine that share the rays of every step (docs/many-processes.md).
            nodes: Machines; the run folder must be on a disk that all of them share.
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
        if self.device.type != "cpu" and devices * nodes > 1:
            raise ConfigError("several processes learn a field on CPUs only; add device 'cpu', or leave out devices")
        started = time.monotonic()
        join_fabric("cpu", "32-true", Spread(devices, nodes))
        run = self._begin(resume=resume)
        with only_writer(run.path), one_falls_all_fall():
            from_first(lambda: self.estimate_poses(resume=True, watch=watch))
            budget = from_first(lambda: settle_budget(run, minutes, steps))
            before_training = time.monotonic() - started
            train, test = self.split
            photos = self._settle_frame(self._load(train, watch))
            from_first(lambda: write_scene_file(self.out / "scene.json", self.scene, self.field_from_world, test))
            settings, device = self._train_settings(budget, photos), self.device
            if device.type == "cpu":
                train_field(photos, settings, run, watch=watch)
            else:
                train_field_on(device, photos, gpu_settings(settings), run, watch=watch)
            self.__dict__.pop("field", None)
            return from_first(lambda: self._score(before_training, watch))

    def evaluate(self, *, watch: Watcher = ignore) -> Evaluation:
        """Scores on the held-out photos, of the newest checkpoint; `fit` has them at hand.

        Writes `views/`, `turn.jpg` and `result.json`.

        Raises:
            RunError: nothing has been trained yet.
        """
        if self._scores is not None:
            return self._scores
        with held(self.out):
            return self._score(0.0, watch)

    def render_orbit(
        self, path: Path | str, *, frames: int = 120, fps: float = 30, watch: Watcher = ignore
    ) -> CameraPath:
        """Render a video once round the object; `render_path` of "orbit"."""
        return self.render_path("orbit", path, frames=frames, fps=fps, watch=watch)

    def render_path(  # noqa: PLR0913 - the public contract
        self,
        kind: PathKind | Path | str,
        path: Path | str,
        *,
        frames: int = 120,
        fps: float | None = None,
        size: tuple[int, int] | int | None = None,
        what: What = "rgb",
        quality: Quality = "full",
        samples: int = 32,
        save_path: Path | str | None = None,
        watch: Watcher = ignore,
    ) -> CameraPath:
        """Render a video along a camera path, without distortion.

        Args:
            kind: "orbit", "interpolate", "spiral", or a camera-path file (see `path_file.read_path`).
            path: The .mp4 to write.
            frames: Length; a file has its own.
            fps: Frames a second; else the file's, else 30.
            size: Width and height in pixels, or the height alone; else the file's, else that of most training photos as
                they were trained on. An odd side loses a pixel.
            what: "rgb", "depth" (inverse depth, one range of colours for the whole video) or "normal" (0.5 + 0.5 n with
                z up).
            quality: "preview" takes half the size, every third frame and 16 samples a ray.
            samples: Samples a ray: 16, 24, 32, 48 or 96.
            save_path: A .json to write the path to as well, in the capture's own frame.
            watch: Told of every frame.

        Returns:
            The path in the field frame, with the angle, size and rate of the video; its description says where it went.

        Raises:
            ConfigError: an unknown kind of path, a name that does not end in .mp4, or a setting outside its range.
            DataError: the camera-path file is not one.
            RunError: nothing has been trained yet.
            Interrupted: somebody stopped it; the video holds the frames until then.
        """
        wanted = Wanted(
            kind=kind,
            frames=frames,
            fps=fps,
            size=size,
            what=what,
            quality=quality,
            samples=samples,
            save_path=save_path,
        )
        return make_video(
            self.field,
            self.scene,
            self.split[0],
            wanted,
            Path(path),
            field_from_world=self.field_from_world,
            max_side=self.settings.max_side,
            watch=watch,
        )

    def export_point_cloud(self, path: Path | str, *, frame: ExportFrame = "original", watch: Watcher = ignore) -> None:
        """Write what the training cameras see of the object as a coloured .ply.

        Args:
            path: The file to write.
            frame: "original", the capture's own, or "upright": z up, the object at the origin, the same lengths.
            watch: Told of the progress.

        Raises:
            ConfigError: another suffix, or an unknown frame.
            CaptureError: the field shows no surface.
            RunError: nothing has been trained yet.
        """
        there = out_of_field(self.field_from_world, frame)
        check_suffix(Path(path), POINT_CLOUD_SUFFIXES, "point cloud")
        check_place(Path(path))
        photos = self._load_as_trained(self.split[0], watch)
        save_point_cloud(make_cloud(self.field, photos, there, watch=watch), Path(path))

    def export_mesh(
        self,
        path: Path | str,
        *,
        resolution: int = 192,
        max_faces: int | None = MAX_FACES,
        frame: ExportFrame = "original",
        watch: Watcher = ignore,
    ) -> None:
        """Write the object's surface as a coloured .glb, .obj or .ply.

        Args:
            path: The file to write.
            resolution: Grid points along each side of the cube about the object.
            max_faces: Triangles that are kept; None keeps all.
            frame: "original", the capture's own; or "upright": the object at the origin and stood up, with the same
                lengths, y up in a .glb as its viewers expect and z up in the others.
            watch: Told of the progress.

        Raises:
            ConfigError: another suffix, an unknown frame, a resolution below 8, or fewer than 4 faces.
            CaptureError: the field holds no surface.
            RunError: nothing has been trained yet.
        """
        there = out_of_field(self.field_from_world, frame)
        suffix = check_suffix(Path(path), MESH_SUFFIXES, "mesh")
        check_place(Path(path))
        mesh = self.mesh(resolution=resolution, max_faces=max_faces, watch=watch)
        turn = Y_UP if (frame, suffix) == ("upright", ".glb") else np.eye(3)
        save_mesh(replace(mesh, vertices=there.apply(mesh.vertices) @ turn.T), Path(path))

    def mesh(self, *, resolution: int = 192, max_faces: int | None = MAX_FACES, watch: Watcher = ignore) -> Mesh:
        """The object's surface in the field frame; see `export_mesh`."""
        usual = self._load((usual_view(self.scene, self.split[0]),))
        cameras = self.field_from_world.apply_pose(stacked_poses(self.scene, self.split[0]))[:, :, 3]
        return make_mesh(self.field, usual, cameras, resolution=resolution, max_faces=max_faces, watch=watch)

    def export_cameras(self, path: Path | str, *, frame: ExportFrame = "original") -> None:
        """Write the photos' cameras: to a .json as `transforms.json`, else as a folder with COLMAP's text model.

        Poses are enough, nothing needs to be trained. The .json names which photos are held out here; COLMAP's text has
        the sparse points, where the capture has any.

        Args:
            path: The .json, or the folder.
            frame: "original", the capture's own, or "upright": z up, the object at the origin, the same lengths.

        Raises:
            ConfigError: a camera model or a photo's name that the format has no words for, or an unknown frame.
            CaptureError: the poses have not been found yet.
            RunError: the files cannot be written.
        """
        out = out_of_field(self.field_from_world, frame)
        scene = with_refined_poses(self.scene, self._refined_file)
        there = scene if frame == "original" else moved(moved(scene, self.field_from_world), out)
        if Path(path).suffix.lower() == ".json":
            write_transforms(there, Path(path), test=self.split[1])
        else:
            write_colmap_text(there, Path(path))

    def arrays(self, *, watch: Watcher = ignore) -> PhotoArrays:
        """All photos as they are trained on, with their cameras, as arrays: for a model of your own.

        Poses are enough, nothing needs to be trained. Every call reads the photos anew.

        Raises:
            CaptureError: the poses have not been found yet.
            DataError: a photo cannot be read.
        """
        return photo_arrays(self.scene, self._load(tuple(range(len(self.scene.views))), watch), self.split)

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

    @property
    def field_from_world(self) -> Similarity:
        """From the capture's own frame to the field's; training settles it."""
        return self._frame.field_from_world

    @cached_property
    def device(self) -> torch.device:
        """Where the field is learned and looked at."""
        return choose_device(self.settings.device)

    @property
    def device_note(self) -> str | None:
        """Why that device is slower than it could be, in a sentence; None where nothing is amiss."""
        return lacks(self.device)

    @cached_property
    def field(self) -> AnyField:
        """The trained field, on the device that looks at it.

        Raises:
            RunError: nothing has been trained yet.
        """
        if self._run is None:
            raise RunError(f"{self.out} has not been trained yet; call fit, or open a finished run")
        field = load_field(self._run)
        return field if self.device.type == "cpu" else place_field(field, self.device)

    @cached_property
    def _frame(self) -> FieldFrame:
        file = self.out / _FRAME_FILE
        return read_frame(file) if file.exists() else FieldFrame(field_from_world=field_frame(self.scene))

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
            del settings["device"]  # a run may go on elsewhere
            self._run = open_run(self.out, kind="nerf", settings=settings, resume=resume)
        return self._run

    def _settle_frame(self, photos: PosedPhotos) -> PosedPhotos:
        """Settle the run's frame, close about an object that silhouettes bound; the training photos in it."""

        def settle() -> FieldFrame:
            file = self.out / _FRAME_FILE
            if file.exists():
                return self._frame
            frame = object_frame(photos, self._frame)
            write_frame(file, frame)
            return frame

        self._frame = from_first(settle)
        poses = self.field_from_world.apply_pose(stacked_poses(self.scene, self.split[0]))
        return replace(photos, field_from_camera=poses.astype(np.float32))

    def _train_settings(self, budget: Budget, photos: PosedPhotos) -> TrainSettings:
        return TrainSettings(
            field=self._open_field(photos) if self._frame.bound is None else object_field(photos),
            seed=self.settings.seed,
            background=self.settings.background,
            pose_rate=_POSE_RATE if self.settings.refine_poses == "yes" else 0.0,
            steps=budget.steps,
            max_seconds=None if budget.minutes is None else 60 * budget.minutes,
        )

    def _open_field(self, photos: PosedPhotos) -> FieldSettings:
        """Of a scene that goes on."""
        points = self.scene.points
        seen = None if points is None else self.field_from_world.apply(points.xyz)
        return FieldSettings(near=nearest_surface(photos, seen))

    def _load(self, indices: tuple[int, ...], watch: Watcher = ignore) -> PosedPhotos:
        return load_photos(
            self.scene,
            indices,
            field_from_world=self.field_from_world,
            max_side=self.settings.max_side,
            watch=watch,
        )

    def _load_as_trained(self, indices: tuple[int, ...], watch: Watcher) -> PosedPhotos:
        """As `_load`, with the training cameras where they ended."""
        photos, scene = self._load(indices, watch), with_refined_poses(self.scene, self._refined_file)
        poses = self.field_from_world.apply_pose(stacked_poses(scene, indices))
        return replace(photos, field_from_camera=poses.astype(np.float32))

    def _write_refined(self, checkpoint: Checkpoint) -> None:
        """Where the training cameras went by a checkpoint of a run that moves them."""
        train, frame = self.split[0], self.field_from_world
        given = frame.apply_pose(stacked_poses(self.scene, train)).astype(np.float32)
        refined = refined_poses(given, cast(Mapping[str, State], checkpoint.state["poses"]))
        write_refined_poses(self._refined_file, self.scene, train, refined, frame)

    @property
    def _refined_file(self) -> Path:
        """Where training moved cameras: where to."""
        return self.out / "poses_refined.json"

    def _score(self, seconds_before: float, watch: Watcher) -> Evaluation:
        """Score the field, and write what there is to see and to know."""
        started = time.monotonic()
        field, run = self.field, self._begin(resume=True)
        checkpoint = load_newest(run.checkpoints)
        assert checkpoint is not None  # the field came from it
        train, test = self.split
        lpips = find_lpips(self._data_root)
        metric = lpips if isinstance(lpips, Lpips) else None
        some = evenly_spaced(train, min(len(test), _MOST_SCORED_TRAINING))
        held_out = self._load(test, watch)
        scored, unrefined = evaluate(field, held_out, lpips=metric, watch=watch), None
        if "poses" in checkpoint.state:
            self._write_refined(checkpoint)
            refitted = refit_poses(load_field(run), held_out, seed=self.settings.seed, watch=watch)
            stage = "scoring the halves that were not refitted on"
            honest = evaluate(field, refitted, lpips=metric, part="right half", stage=stage, watch=watch)
            scored, unrefined = honest, scored
        seen = self._load_as_trained(some, watch)
        scores = Scores(
            test=scored,
            test_unrefined=unrefined,
            train=evaluate(field, seen, stage="scoring some training photos", watch=watch),
            lpips_missing=lpips.reason if isinstance(lpips, NoLpips) else None,
        )
        write_views(self.out / "views", scores.test)
        write_turn(
            self.out,
            field,
            self.scene,
            train,
            field_from_world=self.field_from_world,
            max_side=self.settings.max_side,
            watch=watch,
        )
        fields = result_fields(
            scores,
            checkpoint,
            self.scene,
            train_images=len(train),
            poses_source="colmap" if self._uses_colmap else "given",
            max_side=self.settings.max_side,
        )
        fields |= {"device": name_of(self.device), "device_note": self.device_note}
        seconds = seconds_before + checkpoint.seconds + time.monotonic() - started
        run.finish("nerf", seconds=seconds, seed=self.settings.seed, fields=fields)
        self._scores = scores.test
        return scores.test
