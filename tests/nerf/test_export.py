"""A ball of known size and colours, exported and read back."""

import json
from pathlib import Path

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from nndl_suite.errors import CaptureError, ConfigError
from nndl_suite.nerf.export import Mesh, Region, extract_mesh, gather_points, solid_region
from nndl_suite.nerf.export_frame import out_of_field
from nndl_suite.nerf.frame import Similarity
from nndl_suite.nerf.path import look_at
from nndl_suite.nerf.photos import PosedPhotos
from nndl_suite.nerf.rendering import Rendering
from nndl_suite.nerf.scene import Points
from nndl_suite.nerf.surface_files import save_mesh, save_point_cloud

CENTRE = np.array([0.1, -0.2, 0.3])
RADIUS = 0.25
REGION = Region(centre=CENTRE, radius=0.4)
CAMERAS = CENTRE + np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1.0]])


LEVEL = np.log(2) / (0.04 * 2 * REGION.radius)  # half of the light over 4 % of the cube's side


def ball(points: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At LEVEL on its surface; red, green and blue grow along x, y and z. A far speck is a floater."""
    offset = points - CENTRE
    inside = 2 * LEVEL / (1 + np.exp((np.linalg.norm(offset, axis=-1) - RADIUS) * 60))
    speck = 2 * LEVEL * (np.linalg.norm(offset - 0.3, axis=-1) < 0.03)
    return (inside + speck).astype(np.float32), (offset + 0.5).astype(np.float32)


def rendered_ball(directions: np.ndarray, pose: np.ndarray) -> Rendering:
    toward = directions @ pose[:, :3].T
    start = pose[:, 3] - CENTRE
    b = toward @ start
    root = b * b - start @ start + RADIUS**2
    depth = np.where(root > 0, -b - np.sqrt(root.clip(0)), 5.0)
    image = pose[:, 3] + depth[..., None] * toward - CENTRE + 0.5
    return Rendering(image.astype(np.float32), depth.astype(np.float32), (root > 0).astype(np.float32))


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return extract_mesh(ball, REGION, cameras=CAMERAS, resolution=64)


def solid(mesh: Mesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)


def test_the_mesh_of_a_ball_is_a_closed_ball_without_the_floater(mesh: Mesh):
    assert solid(mesh).is_watertight
    assert solid(mesh).volume == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.03)  # positive: faces turn outwards
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices - CENTRE, axis=-1), RADIUS, atol=0.01)


def test_a_coarse_look_closes_in_on_what_is_solid():
    wide = Region(centre=CENTRE + [0.1, 0.3, -0.2], radius=1.0)

    def query(points: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        offset = points - CENTRE
        box = (np.abs(offset) < [0.3, 0.1, 0.2]).all(axis=-1)
        speck = np.linalg.norm(offset - [0.5, 0.7, 0.3], axis=-1) < 0.04
        return (100.0 * (box | speck)).astype(np.float32), np.zeros_like(points)

    found = solid_region(query, wide)
    np.testing.assert_allclose(found.centre, CENTRE, atol=2 / 47)
    assert 0.3 <= found.radius - np.abs(found.centre - CENTRE).max() < found.radius <= 0.3 + 3 * 2 / 47
    empty = solid_region(lambda points, directions: (np.zeros(len(points), np.float32), points), wide)
    assert empty == wide


def test_vertices_have_the_colours_of_their_places(mesh: Mesh):
    thickness = np.log(2) / LEVEL  # the colour is what is seen of this layer, not of its middle alone
    np.testing.assert_allclose(mesh.rgb / 255, mesh.vertices - CENTRE + 0.5, atol=0.6 * thickness)


def test_a_vertex_is_seen_from_the_camera_that_faces_it():
    def by_direction(points: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        np.testing.assert_allclose(np.linalg.norm(directions, axis=-1), 1, atol=1e-5)
        return ball(points, directions)[0], (0.5 - 0.5 * directions).astype(np.float32)

    mesh = extract_mesh(by_direction, REGION, cameras=CAMERAS, resolution=32)
    back = 2 * (mesh.rgb / 255) - 1  # towards the camera
    outward = (mesh.vertices - CENTRE) / np.linalg.norm(mesh.vertices - CENTRE, axis=-1, keepdims=True)
    # Six cameras on the axes at distance 1: from above a corner of the cube, 68 degrees off the normal.
    assert np.einsum("vc,vc->v", back, outward).min() > 0.33


def test_a_soft_surface_has_the_colour_that_comes_through_it():
    """White fog about a red core: from outside the core is what one sees, though the surface lies in the fog."""

    def fogged(points: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        radius = np.linalg.norm(points - CENTRE, axis=-1)
        density = np.where(radius < RADIUS - 0.005, 100 * LEVEL, np.where(radius < RADIUS + 0.002, 1.2 * LEVEL, 0))
        colours = np.where(radius[:, None] < RADIUS - 0.005, [1.0, 0, 0], [1.0, 1, 1])
        return density.astype(np.float32), colours.astype(np.float32)

    mesh = extract_mesh(fogged, REGION, cameras=CAMERAS, resolution=64)
    assert np.median(mesh.rgb[:, 1]) < 100  # of 255; its own place alone would say 255 or 0


def test_a_simplified_mesh_is_the_same_ball_in_fewer_faces(mesh: Mesh):
    fewer = extract_mesh(ball, REGION, cameras=CAMERAS, resolution=64, max_faces=1000)
    assert len(mesh.faces) > 5000
    assert 900 < len(fewer.faces) <= 1000
    assert solid(fewer).is_watertight
    assert solid(fewer).volume == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.03)
    np.testing.assert_allclose(np.linalg.norm(fewer.vertices - CENTRE, axis=-1), RADIUS, atol=0.01)
    np.testing.assert_allclose(fewer.rgb / 255, fewer.vertices - CENTRE + 0.5, atol=0.6 * np.log(2) / LEVEL)
    with pytest.raises(ConfigError, match="max_faces"):
        extract_mesh(ball, REGION, cameras=CAMERAS, resolution=64, max_faces=3)


def test_what_is_exported_has_the_lengths_of_the_capture():
    turn = Rotation.from_rotvec([0.3, -0.5, 0.9]).as_matrix()
    field_from_world = Similarity(scale=0.25, rotation=turn, translation=np.array([1.0, 2, 3]))
    there = np.random.default_rng(0).standard_normal((10, 3))
    in_field = field_from_world.apply(there)
    np.testing.assert_allclose(out_of_field(field_from_world, "original").apply(in_field), there, atol=1e-12)
    np.testing.assert_allclose(out_of_field(field_from_world, "upright").apply(in_field), in_field * 4, atol=1e-12)


def test_a_surface_that_leaves_the_cube_is_closed_at_its_wall():
    wide = extract_mesh(ball, Region(centre=CENTRE + [0.25, 0.3, 0], radius=0.4), cameras=CAMERAS, resolution=32)
    assert solid(wide).is_watertight


def test_empty_space_has_no_mesh():
    with pytest.raises(CaptureError, match="no surface"):
        extract_mesh(lambda p, d: (np.zeros(len(p), np.float32), p), REGION, cameras=CAMERAS, resolution=16)
    with pytest.raises(ConfigError, match="resolution"):
        extract_mesh(ball, REGION, cameras=CAMERAS, resolution=4)


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".glb"])
def test_a_mesh_file_holds_the_same_mesh(tmp_path: Path, mesh: Mesh, suffix: str):
    file = tmp_path / f"ball{suffix}"
    save_mesh(mesh, file)
    back = trimesh.load(file, force="mesh", process=False)
    assert isinstance(back, trimesh.Trimesh)
    np.testing.assert_allclose(back.vertices, mesh.vertices, atol=1e-5)
    assert np.array_equal(back.faces, mesh.faces)
    if suffix == ".glb":  # linear light in glTF; trimesh itself drops vertex colours beside a material
        linear = glb_colours(file) / 255
        colours = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    else:
        colours = np.asarray(back.visual.vertex_colors)[:, :3] / 255
    np.testing.assert_allclose(colours, mesh.vertices - CENTRE + 0.5, atol=0.02)


def glb_tree(file: Path) -> tuple[dict, bytes]:
    """The JSON and the binary chunk of a GLB file (glTF 2.0 specification, section 4.4)."""
    content = file.read_bytes()
    length = int.from_bytes(content[12:16], "little")
    return json.loads(content[20 : 20 + length]), content[28 + length :]


def glb_colours(file: Path) -> np.ndarray:
    tree, buffer = glb_tree(file)
    accessor = tree["accessors"][tree["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"]]
    start = tree["bufferViews"][accessor["bufferView"]]["byteOffset"]
    return np.frombuffer(buffer, np.uint8, 4 * accessor["count"], start).reshape(-1, 4)[:, :3]


def test_a_glb_shines_by_itself(tmp_path: Path, mesh: Mesh):
    save_mesh(mesh, tmp_path / "ball.glb")
    tree, _ = glb_tree(tmp_path / "ball.glb")
    assert "KHR_materials_unlit" in tree["materials"][tree["meshes"][0]["primitives"][0]["material"]]["extensions"]
    assert tree["extensionsUsed"] == ["KHR_materials_unlit"]


def photos() -> PosedPhotos:
    """Three cameras of one size about the ball; their pixels are not looked at."""
    height, width, focal = 40, 50, 60.0
    x, y = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
    directions = np.stack([x / focal, y / focal, np.ones_like(x)], -1).reshape(-1, 3)
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    poses = look_at(CAMERAS[[0, 2, 3]] - CENTRE) + np.pad(CENTRE[:, None], ((0, 0), (3, 0)))
    return PosedPhotos(
        names=("a", "b", "c"),
        sizes=((height, width),) * 3,
        pixels=np.zeros((3 * height * width, 3), np.uint8),
        starts=np.arange(4) * height * width,
        camera_of=np.zeros(3, np.int64),
        directions=directions.astype(np.float32),
        direction_starts=np.array([0, height * width]),
        field_from_camera=poses.astype(np.float32),
    )


def test_points_lie_on_what_the_cameras_see_and_have_its_colours(tmp_path: Path):
    cloud = gather_points(rendered_ball, photos(), REGION)
    save_point_cloud(cloud, tmp_path / "ball.ply")
    back = trimesh.load(tmp_path / "ball.ply")
    assert isinstance(back, trimesh.PointCloud)
    assert len(back.vertices) > 500
    np.testing.assert_allclose(np.linalg.norm(back.vertices - CENTRE, axis=-1), RADIUS, atol=1e-3)
    np.testing.assert_allclose(np.asarray(back.colors)[:, :3] / 255, back.vertices - CENTRE + 0.5, atol=0.004)


def test_fewer_rays_give_fewer_points_of_the_same_surface():
    cloud = gather_points(rendered_ball, photos(), REGION, about=600)
    assert 50 < len(cloud.xyz) < 300
    np.testing.assert_allclose(np.linalg.norm(cloud.xyz - CENTRE, axis=-1), RADIUS, atol=1e-3)


def test_what_cannot_be_exported_is_refused(tmp_path: Path, mesh: Mesh):
    with pytest.raises(CaptureError, match="train longer"):
        gather_points(rendered_ball, photos(), Region(centre=CENTRE + 5, radius=1))
    with pytest.raises(ConfigError, match=r"\.glb or \.obj or \.ply"):
        save_mesh(mesh, tmp_path / "ball.stl")
    with pytest.raises(ConfigError, match=r"\.ply"):
        save_point_cloud(Points(xyz=np.zeros((1, 3)), rgb=np.zeros((1, 3), np.uint8)), tmp_path / "ball.xyz")
