"""From a trained field and the photos it came from to a point cloud or a mesh of the object."""

from functools import partial

import numpy as np
from jaxtyping import Float64

from nndl_suite.nerf.export import Mesh, extract_mesh, gather_points, object_region, solid_region
from nndl_suite.nerf.frame import Similarity
from nndl_suite.nerf.photos import PosedPhotos
from nndl_suite.nerf.rendering import AnyField, render_view
from nndl_suite.nerf.scene import Points
from nndl_suite.training.watch import Watcher, ignore


def make_cloud(
    field: AnyField, photos: PosedPhotos, there_from_field: Similarity, *, watch: Watcher = ignore
) -> Points:
    """What the photos' cameras see of the object, in another frame.

    Raises:
        CaptureError: the field shows no surface.
    """
    region = object_region(photos, field.settings.bound)
    seen = gather_points(partial(render_view, field), photos, region, watch=watch)
    return Points(xyz=there_from_field.apply(seen.xyz), rgb=seen.rgb)


def make_mesh(  # noqa: PLR0913 - what a surface depends on
    field: AnyField,
    usual: PosedPhotos,
    cameras: Float64[np.ndarray, "n 3"],
    *,
    resolution: int,
    max_faces: int | None,
    watch: Watcher = ignore,
) -> Mesh:
    """The object's surface in the field frame.

    Args:
        field: What is seen.
        usual: One photo of the usual camera.
        cameras: Where the photos were taken, field frame.
        resolution: Grid points along each side of the cube about the object; where that stands alone, about what is
            solid of it.
        max_faces: Triangles that are kept; None keeps all.
        watch: Told of the progress.

    Raises:
        ConfigError: a resolution below 8, or fewer than 4 faces.
        CaptureError: the field holds no surface.
    """
    region = object_region(usual, field.settings.bound)
    if field.settings.bound is not None:
        region = solid_region(field.query, region, watch=watch)
    return extract_mesh(field.query, region, cameras=cameras, resolution=resolution, max_faces=max_faces, watch=watch)
