"""COLMAP, run as a program of its own: `python -m nndl_suite.nerf.colmap_child`.

pycolmap stays out of everybody else's process for three reasons: some of its mistakes abort the process, its log
library takes over the SIGTERM handler, and its wheel exports a zlib of its own that breaks the system's unless that one
is loaded first. The request is one line of JSON on stdin; the answers are lines of JSON on stdout, each an object with
one of the keys "step", "result" and "error". Arrays go through an `.npz` file that the request names.

Only `nndl_suite.nerf.colmap` starts this, and settings were checked where they were made: the request is trusted.
"""

import json
import os
import shutil
import sys
import threading
import zlib  # noqa: F401  # pyright: ignore[reportUnusedImport]  # must be loaded before pycolmap, see above
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

Report = Callable[[str, int, int], None]


def main() -> None:
    """Answer the one request on stdin."""
    # COLMAP prints to stdout here and there; what it says must not land between our lines.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def reply(**answer: object) -> None:
        replies.write(json.dumps(answer) + "\n")
        replies.flush()

    def report(stage: str, done: int, total: int) -> None:
        reply(step={"stage": stage, "done": done, "total": total})

    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    pycolmap.logging.minloglevel = pycolmap.logging.Level.WARNING.value
    try:
        reply(result=_TASKS[request["task"]](request, report))
    except (ValueError, RuntimeError, OSError, IndexError, KeyError) as error:
        reply(error=str(error) or type(error).__name__)
    os._exit(0)  # past the destructors of a large native library, and past the thread that reads stdin


def _leave_with_parent() -> None:
    """End this process when the parent is gone, however it went: nobody wants the rest of the work."""
    while os.read(0, 4096):
        pass
    os._exit(1)


def directions(request: dict[str, Any], _: Report) -> dict[str, Any]:
    """Unit rays through all pixel centres of each camera, as arrays "0", "1", …, [h * w, 3]."""
    arrays: dict[str, np.ndarray] = {}
    for index, asked in enumerate(request["cameras"]):
        camera = pycolmap.Camera(
            model=asked["model"], width=asked["width"], height=asked["height"], params=asked["params"]
        )
        if not camera.verify_params():
            raise ValueError(f"camera model {asked['model']} cannot have the parameters {asked['params']}")
        x, y = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
        pixels = np.stack([x.ravel(), y.ravel()], axis=1)
        arrays[str(index)] = np.asarray(camera.cam_ray_from_img(pixels), dtype=np.float64)
    np.savez(request["arrays"], allow_pickle=False, **arrays)
    return {}


def read_model(request: dict[str, Any], _: Report) -> dict[str, Any]:
    """The largest of the models in the given folders: cameras and names in the answer, poses and points as arrays."""
    models = [pycolmap.Reconstruction(folder) for folder in request["folders"]]
    chosen = max(range(len(models)), key=lambda index: models[index].num_reg_images())
    model = models[chosen]
    cameras = dict(sorted(model.cameras.items()))
    place = {camera_id: index for index, camera_id in enumerate(cameras)}
    images = sorted((image for image in model.images.values() if image.has_pose), key=lambda image: image.name)
    points = [point for _, point in sorted(model.points3D.items())]
    np.savez(
        request["arrays"],
        allow_pickle=False,
        camera_from_world=np.array([image.cam_from_world().matrix() for image in images]).reshape(-1, 3, 4),
        xyz=np.array([point.xyz for point in points], dtype=np.float64).reshape(-1, 3),
        rgb=np.array([point.color for point in points], dtype=np.uint8).reshape(-1, 3),
    )
    return {
        "folder": request["folders"][chosen],
        "names": [image.name for image in images],
        "camera_of": [place[image.camera_id] for image in images],
        "cameras": [
            {
                "model": camera.model.name,
                "width": camera.width,
                "height": camera.height,
                "params": camera.params.tolist(),
            }
            for camera in cameras.values()
        ],
        "total": len(model.images),
        "mean_reprojection_error": model.compute_mean_reprojection_error() if points else None,
    }


def estimate(request: dict[str, Any], report: Report) -> dict[str, Any]:
    """Features, matches and poses of prepared photos; the best model is written to the folder `model` of the request.

    Extraction takes all the threads it is given, for its results do not depend on the order of work once the photos are
    in the database. Matching takes one: with two, pycolmap 4.2.1 now and then lost all matches of one pair. Mapping
    takes one: sums over threads differ in the last bit, and bits grow.
    """
    work = _Work(request, report)
    work.extract()
    rungs = [(request["matcher"], request["mapper"])]
    other = "incremental" if request["mapper"] == "global" else "global"
    rungs.append((request["retry_matcher"], other))
    best: pycolmap.Reconstruction | None = None
    used = rungs[0]
    for matcher, mapper in rungs:
        work.match(matcher)
        model = work.map(mapper)
        if model is not None and (best is None or model.num_reg_images() > best.num_reg_images()):
            best, used = model, (matcher, mapper)
        if best is not None and best.num_reg_images() >= request["enough"] * work.total:
            break
    if best is None:
        return {"registered": []}
    folder = Path(request["model"])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    best.write(folder)
    return {
        "registered": sorted(image.name for image in best.images.values() if image.has_pose),
        "mean_reprojection_error": best.compute_mean_reprojection_error(),
        "points": best.num_points3D(),
        "matcher": used[0],
        "mapper": used[1],
    }


class _Work:
    """One capture on its way through COLMAP; the database remembers what is done, for a second run."""

    def __init__(self, request: dict[str, Any], report: Report):
        self.groups: list[list[str]] = request["groups"]
        self.total = sum(map(len, self.groups))
        self.images = Path(request["images"])
        self.database = Path(request["database"])
        self.request = request
        self.report = report
        pycolmap.set_random_seed(request["seed"])

    def extract(self) -> None:
        with _opened(self.database) as database:
            complete = database.num_images() == self.total
            done = complete and _photos_with_features(database) == self.total
        if done:
            return
        for stale in self.database.parent.glob(f"{self.database.name}*"):
            stale.unlink()
        with _opened(self.database):
            pass
        reader = pycolmap.ImageReaderOptions(camera_model=self.request["camera_model"])
        mode = pycolmap.CameraMode.SINGLE if self.request["shared_camera"] else pycolmap.CameraMode.PER_IMAGE
        # Numbering the photos first, in order: the threads of the extraction would number them as they finish.
        for names in self.groups:
            pycolmap.import_images(self.database, self.images, mode, image_names=names, options=reader)
        options = pycolmap.FeatureExtractionOptions(
            num_threads=self.request["threads"], max_image_size=self.request["max_image_size"]
        )
        options.sift.max_num_features = self.request["max_features"]
        options.sift.first_octave = self.request["first_octave"]
        with self._watched("finding features", self.total, _photos_with_features):
            pycolmap.extract_features(
                self.database,
                self.images,
                image_names=[name for names in self.groups for name in names],
                extraction_options=options,
            )

    def match(self, matcher: str) -> None:
        matching = pycolmap.FeatureMatchingOptions(num_threads=1)
        verification = pycolmap.TwoViewGeometryOptions()
        verification.ransac.random_seed = self.request["seed"]
        if matcher == "exhaustive":
            pairs = self.total * (self.total - 1) // 2
            with self._watched("matching photos", pairs, lambda database: database.num_matched_image_pairs()):
                pycolmap.match_exhaustive(self.database, matching, verification_options=verification)
            return
        pairing = pycolmap.SequentialPairingOptions(num_threads=1, overlap=self.request["overlap"])
        pairs = self.total * pairing.overlap  # about: neighbours, and the quadratic ones
        with self._watched("matching photos", pairs, lambda database: database.num_matched_image_pairs()):
            pycolmap.match_sequential(self.database, matching, pairing, verification)

    def map(self, mapper: str) -> pycolmap.Reconstruction | None:
        """The model with the most photos, or None."""
        # A copy each, for the calibration of the view graph changes cameras and matches.
        database = self.database.with_name(f"{mapper}.db")
        scratch = self.database.with_name(f"{mapper}-models")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        shutil.copyfile(self.database, database)
        try:
            models = (
                self._map_globally(database, scratch) if mapper == "global" else self._map_one_by_one(database, scratch)
            )
        finally:
            database.unlink()
            shutil.rmtree(scratch, ignore_errors=True)
        return max(models.values(), key=lambda model: model.num_reg_images(), default=None)

    def _map_globally(self, database: Path, scratch: Path) -> dict[int, pycolmap.Reconstruction]:
        self.report("placing cameras", 0, self.total)
        calibration = pycolmap.ViewGraphCalibrationOptions(random_seed=self.request["seed"])
        pycolmap.calibrate_view_graph(database, calibration)
        options = pycolmap.GlobalPipelineOptions(random_seed=self.request["seed"], num_threads=1)
        models = pycolmap.global_mapping(database, self.images, scratch, options)
        self.report("placing cameras", self.total, self.total)
        return models

    def _map_one_by_one(self, database: Path, scratch: Path) -> dict[int, pycolmap.Reconstruction]:
        options = pycolmap.IncrementalPipelineOptions(random_seed=self.request["seed"], num_threads=1)
        placed = 2  # the pair to begin with

        def next_image() -> None:
            nonlocal placed
            placed = min(placed + 1, self.total)  # a second model starts over; the bar does not
            self.report("placing cameras", placed, self.total)

        return pycolmap.incremental_mapping(database, self.images, scratch, options, next_image_callback=next_image)

    @contextmanager
    def _watched(self, stage: str, total: int, count: Callable[[pycolmap.Database], int]) -> Generator[None]:
        """Report while COLMAP works: it has no callback here, but its database can be counted meanwhile."""
        over = threading.Event()

        def poll() -> None:
            with _opened(self.database) as database:
                while not over.wait(0.5):
                    self.report(stage, min(count(database), total), total)

        thread = threading.Thread(target=poll, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        self.report(stage, total, total)


@contextmanager
def _opened(path: Path) -> Generator[pycolmap.Database]:
    database = pycolmap.Database.open(path)
    try:
        yield database
    finally:
        database.close()


def _photos_with_features(database: pycolmap.Database) -> int:
    return sum(database.exists_keypoints(image.image_id) for image in database.read_all_images())


_TASKS: dict[str, Callable[[dict[str, Any], Report], dict[str, Any]]] = {
    "directions": directions,
    "read_model": read_model,
    "estimate": estimate,
}

if __name__ == "__main__":
    main()
