"""Features, matches and poses of prepared photos, by one way after the other until enough photos are placed.

Part of the child process (see `colmap_child`): it imports pycolmap.
"""

import shutil
import threading
import zlib  # noqa: F401  # pyright: ignore[reportUnusedImport]  # must be loaded before pycolmap, see colmap_child
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pycolmap

from nndl_suite.nerf.colmap_request import (
    EstimateRequest,
    Features,
    Mapper,
    Matcher,
    Start,
    extraction,
    extraction_threads,
    free_memory_bytes,
    ladder,
    usable_cores,
)
from nndl_suite.nerf.diagnosis import MatchFacts

Report = Callable[[str, int, int], None]

_FLAT = (
    pycolmap.TwoViewGeometryConfiguration.PLANAR,
    pycolmap.TwoViewGeometryConfiguration.PANORAMIC,
    pycolmap.TwoViewGeometryConfiguration.PLANAR_OR_PANORAMIC,
)
_NO_MODEL = 2  # photos: no mapper makes anything of so few
_SOLID = (pycolmap.TwoViewGeometryConfiguration.CALIBRATED, pycolmap.TwoViewGeometryConfiguration.UNCALIBRATED)


def estimate(sent: dict[str, Any], report: Report) -> dict[str, Any]:
    """Climb the ladder of ways; the best model is written to the folder `model` of the request.

    Extraction takes all the threads it is given, for its results do not depend on the order of work once the photos are
    in the database. Matching takes one: with two, pycolmap 4.2.1 now and then lost all matches of one pair. Mapping
    takes one: sums over threads differ in the last bit, and bits grow.
    """
    request = EstimateRequest.from_json(sent)
    work = _Work(request, report)
    best: pycolmap.Reconstruction | None = None
    found: dict[str, Any] = {"registered": [], "mean_reprojection_error": None, "points": 0, "rung": None, "apart": []}
    tries: list[dict[str, Any]] = []
    before: tuple[Features, Matcher] | None = None
    facts = MatchFacts()
    for rung in ladder(request):
        placed = len(found["registered"])
        matched = (rung.features, rung.matcher) == before
        if matched and facts.largest <= max(placed, _NO_MODEL):
            continue  # the same matches hold no more photos together than are placed already
        work.label = f" (try {len(tries) + 1}: {rung.name})" if tries else ""
        database = work.extract(rung.features)
        if not matched:
            work.match(database, rung.matcher)
            facts = _facts(database, request)
            before = (rung.features, rung.matcher)
        models = work.map(database, rung.mapper, rung.start) if facts.largest > _NO_MODEL else []
        names = [sorted(image.name for image in model.images.values() if image.has_pose) for model in models]
        sizes = {"registered": len(names[0]) if names else 0}
        tries.append({"name": rung.name, "matcher": rung.matcher, "mapper": rung.mapper, **sizes})
        if names and len(names[0]) > placed:
            best = models[0]
            found = {
                "registered": names[0],
                "mean_reprojection_error": best.compute_mean_reprojection_error(),
                "points": best.num_points3D(),
                "rung": rung.name,
                "matcher": rung.matcher,
                "mapper": rung.mapper,
                "database": database.name,
                "apart": sorted({name for others in names[1:] for name in others} - set(names[0])),
            }
        if len(found["registered"]) >= request.enough * len(request.names):
            break
    if best is not None:
        _write_model(best, Path(request.model))
    return {**found, "tries": tries, "facts": facts.to_json()}


def _write_model(model: pycolmap.Reconstruction, folder: Path) -> None:
    """Whole or not at all: COLMAP does not notice a disk that is full, but what it wrote can be read again or not."""
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    model.write(part)
    if pycolmap.Reconstruction(part).num_points3D() != model.num_points3D():
        raise OSError(f"the model could not be written whole to {folder}; is the disk full?")
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def _facts(database: Path, request: EstimateRequest) -> MatchFacts:
    """What the photos had to go by."""
    with _opened(database) as opened:
        images = {image.image_id: image.name for image in opened.read_all_images()}
        features = {name: opened.num_keypoints_for_image(number) for number, name in images.items()}
        pair_ids, geometries = opened.read_two_view_geometries()
    solid: list[tuple[str, str]] = []
    flat = 0
    for pair_id, geometry in zip(pair_ids, geometries, strict=True):
        if geometry.config in _FLAT or geometry.config in _SOLID:
            first, second = pycolmap.pair_id_to_image_pair(pair_id)
            solid.append((images[first], images[second]))
            flat += geometry.config in _FLAT
    return MatchFacts(
        features={name: features.get(name, 0) for name in request.names}, pairs=tuple(solid), num_flat_pairs=flat
    )


class _Work:
    """One capture on its way through COLMAP; the database remembers what is done, for a second run."""

    def __init__(self, request: EstimateRequest, report: Report):
        self.request = request
        self.total = len(request.names)
        self.label = ""
        """What this try is, behind the name of each stage."""
        self._report = report
        pycolmap.set_random_seed(request.seed)

    def report(self, stage: str, done: int, total: int) -> None:
        self._report(stage + self.label, done, total)

    def extract(self, features: Features) -> Path:
        """Seek what has not been sought yet; returns the database."""
        settings = extraction(self.request, features)
        database = Path(self.request.database)
        if features == "more":
            database = database.with_name("more.db")
        missing = self._without_features(database)
        if not missing:
            return database
        options = pycolmap.FeatureExtractionOptions(
            num_threads=extraction_threads(
                self.request.threads, settings, cores=usable_cores(), free_bytes=free_memory_bytes()
            ),
            max_image_size=settings.max_image_size,
        )
        options.sift.max_num_features = settings.max_features
        options.sift.first_octave = settings.first_octave
        reader = pycolmap.ImageReaderOptions(camera_model=self.request.camera_model)
        if self.request.masks is not None:
            reader.mask_path = self.request.masks
        with self._watched(database, "finding features", self.total, _photos_with_features):
            pycolmap.extract_features(
                database,
                self.request.images,
                image_names=missing,
                reader_options=reader,
                extraction_options=options,
            )
        return database

    def _without_features(self, database: Path) -> list[str]:
        """Photos whose features are still to be found; begins the database where there is none that can be used."""
        if database.exists():
            try:
                with _opened(database) as opened:
                    images = opened.read_all_images()
                    if len(images) == self.total:
                        return [image.name for image in images if not opened.exists_keypoints(image.image_id)]
            except RuntimeError:
                pass  # not a database, or no more
        for stale in database.parent.glob(f"{database.name}*"):
            stale.unlink()
        with _opened(database):
            pass
        reader = pycolmap.ImageReaderOptions(camera_model=self.request.camera_model)
        mode = pycolmap.CameraMode.SINGLE if self.request.shared_camera else pycolmap.CameraMode.PER_IMAGE
        # Numbering the photos first, in order: the threads of the extraction would number them as they finish.
        for names in self.request.groups:
            pycolmap.import_images(database, self.request.images, mode, image_names=list(names), options=reader)
        return list(self.request.names)

    def match(self, database: Path, matcher: Matcher) -> None:
        """Pairs that are matched already are left alone."""
        matching = pycolmap.FeatureMatchingOptions(num_threads=1)
        verification = pycolmap.TwoViewGeometryOptions()
        verification.ransac.random_seed = self.request.seed
        if matcher == "exhaustive":
            pairs = self.total * (self.total - 1) // 2
            with self._watched(database, "matching photos", pairs, _matched_pairs):
                pycolmap.match_exhaustive(database, matching, verification_options=verification)
            return
        pairing = pycolmap.SequentialPairingOptions(num_threads=1, overlap=self.request.overlap)
        pairs = self.total * pairing.overlap  # about: neighbours, and the quadratic ones
        with self._watched(database, "matching photos", pairs, _matched_pairs):
            pycolmap.match_sequential(database, matching, pairing, verification)

    def map(self, database: Path, mapper: Mapper, start: Start) -> list[pycolmap.Reconstruction]:
        """The models, those with the most photos first."""
        # A copy each, for the calibration of the view graph changes cameras and matches.
        copy = database.with_name(f"{mapper}.db")
        scratch = database.with_name(f"{mapper}-models")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        shutil.copyfile(database, copy)
        try:
            models = (
                self._map_globally(copy, scratch) if mapper == "global" else self._map_one_by_one(copy, scratch, start)
            )
        finally:
            copy.unlink()
            shutil.rmtree(scratch, ignore_errors=True)
        return sorted(models.values(), key=lambda model: -model.num_reg_images())

    def _map_globally(self, database: Path, scratch: Path) -> dict[int, pycolmap.Reconstruction]:
        self.report("placing cameras", 0, self.total)
        calibration = pycolmap.ViewGraphCalibrationOptions(random_seed=self.request.seed)
        pycolmap.calibrate_view_graph(database, calibration)
        options = pycolmap.GlobalPipelineOptions(random_seed=self.request.seed, num_threads=1)
        models = pycolmap.global_mapping(database, self.request.images, scratch, options)
        self.report("placing cameras", self.total, self.total)
        return models

    def _map_one_by_one(self, database: Path, scratch: Path, start: Start) -> dict[int, pycolmap.Reconstruction]:
        options = pycolmap.IncrementalPipelineOptions(random_seed=self.request.seed, num_threads=1)
        if start == "relaxed":
            options.mapper.init_min_tri_angle = 4.0  # degrees, of 16
            options.mapper.init_min_num_inliers = 30  # of 100
            options.mapper.abs_pose_min_num_inliers = 15  # of 30
            options.mapper.abs_pose_min_inlier_ratio = 0.15  # of 0.25
        placed = 2  # the pair to begin with

        def next_image() -> None:
            nonlocal placed
            placed = min(placed + 1, self.total)  # a second model starts over; the bar does not
            self.report("placing cameras", placed, self.total)

        return pycolmap.incremental_mapping(
            database, self.request.images, scratch, options, next_image_callback=next_image
        )

    @contextmanager
    def _watched(
        self, database: Path, stage: str, total: int, count: Callable[[pycolmap.Database], int]
    ) -> Generator[None]:
        """Report while COLMAP works: it has no callback here, but its database can be counted meanwhile."""
        over = threading.Event()

        def poll() -> None:
            with _opened(database) as opened:
                while not over.wait(0.5):
                    self.report(stage, min(count(opened), total), total)

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


def _matched_pairs(database: pycolmap.Database) -> int:
    return database.num_matched_image_pairs()
