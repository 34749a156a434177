"""A page to look around in a reconstruction: photos, points, mesh and the field itself, drawn by viser in a browser."""

import contextlib
import io
import math
import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from scipy.spatial.transform import Rotation

from nndl_suite.errors import CaptureError, ConfigError
from nndl_suite.nerf.arrays import PhotoArrays
from nndl_suite.nerf.live import Detail, LiveView, Look, Picture
from nndl_suite.nerf.path import orbit
from nndl_suite.nerf.reconstructor import ColmapNerfReconstructor
from nndl_suite.nerf.rendering import Rendering, render_view
from nndl_suite.nerf.surface_files import as_glb
from nndl_suite.training.watch import Watcher, ignore

try:
    import viser  # pyright: ignore[reportMissingImports] - an extra, so type checks also run without it

    from nndl_suite.nerf.gate import gate_for, guarding  # needs websockets, which comes with viser
except ImportError as error:
    raise ConfigError('the viewer needs viser, which is not installed: pip install "nndl-suite[viewer]"') from error

_THUMBNAIL = 160  # pixels of the longer side
_FRUSTUM = 0.08  # field units: cameras stand at about 1 from the object
_TRAINED, _HELD_OUT = (70, 110, 220), (240, 140, 30)
_MOST_POINTS = 100_000
_MESH_RESOLUTION, _MESH_FACES = 96, 40_000
_LONGEST = (320, 480, 640, 960, 1280)
_SAMPLES = ("16", "32", "48")
_ORBIT_SECONDS, _ORBIT_FRAMES = 30.0, 240
_PORTS_TRIED = 50
_FARTHEST = 160.0  # viser's depth pictures end a little later
_FARTHEST_CAMERA = 1e4


class Viewer:
    """The page of a trained run; it is served from construction until `close`."""

    def __init__(
        self, scan: ColmapNerfReconstructor, *, host: str = "127.0.0.1", port: int = 7007, watch: Watcher = ignore
    ) -> None:
        """Read the run and start to serve.

        Args:
            scan: A finished run.
            host: Address to listen on. Where others can reach it, the page's `address` has a secret in it.
            port: The first free one from here on is taken.
            watch: Told of the loading.

        Raises:
            RunError: nothing has been trained yet.
            ConfigError: the address cannot be listened on, or no port is free.
        """
        self._scan, self._field = scan, scan.field
        arrays = scan.arrays(watch=watch)
        self._orbiting: dict[int, threading.Event] = {}
        self._stood_in: dict[int, viser.CameraFrustumHandle] = {}
        self._closed = threading.Event()
        found = free_port(host, port)
        self._host, self._gate = host, gate_for(host)
        # its banner is not shown: the caller says where the page is
        with contextlib.redirect_stdout(io.StringIO()), guarding(self._gate):
            self._server = viser.ViserServer(host=host, port=found, label="nndl-suite", verbose=False)
        self.port = self._server.get_port()
        self._live = LiveView(self._render, self._send, Detail(longest=640))
        cameras = scan.field_from_world.apply_pose(arrays.world_from_camera)
        self._set_the_scene(arrays, cameras)
        self._set_the_panel(cameras[list(arrays.train)])
        self._server.on_client_connect(self._welcome)
        self._server.on_client_disconnect(self._farewell)
        self._pool = ThreadPoolExecutor(max_workers=2)
        self._work: list[Future[None]] = [self._pool.submit(self._live.run), self._pool.submit(self._add_mesh)]

    @property
    def address(self) -> str:
        """Where a browser on this machine finds the page."""
        shown = "127.0.0.1" if self._host in {"0.0.0.0", ""} else "::1" if self._host == "::" else self._host
        return f"http://{f'[{shown}]' if ':' in shown else shown}:{self.port}{self._gate.prefix}"

    @property
    def lets_others_in(self) -> bool:
        """Whether other machines reach the page; they need the secret in its address."""
        return self._gate.token is not None

    def wait(self) -> None:
        """Serve until `close` or Ctrl-C; an error of the rendering ends it."""
        while not self._closed.wait(timeout=0.5):
            for work in self._work:
                if work.done():
                    work.result()

    def close(self) -> None:
        """End the server and whatever is being rendered."""
        self._closed.set()
        for going in list(self._orbiting.values()):
            going.set()
        self._live.stop()
        with contextlib.redirect_stdout(io.StringIO()):
            self._server.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _render(
        self, directions: Float32[np.ndarray, "h w 3"], pose: Float32[np.ndarray, "3 4"], samples: int
    ) -> Rendering:
        return render_view(self._field, directions, pose, samples=samples)

    def _send(self, page: int, picture: Picture) -> None:
        client = self._server.get_clients().get(page)
        if client is None or not self._field_shown.value:
            return
        client.scene.set_background_image(
            picture.rgb,
            format="jpeg",
            jpeg_quality=90 if picture.last else 75,
            depth=np.minimum(picture.depth, _FARTHEST),
        )

    def _welcome(self, client: viser.ClientHandle) -> None:
        client.camera.on_update(lambda _: self._looked(client))
        self._looked(client)

    def _farewell(self, client: viser.ClientHandle) -> None:
        self._live.forget(client.client_id)
        frustum = self._stood_in.pop(client.client_id, None)
        if frustum is not None:
            frustum.visible = True
        going = self._orbiting.pop(client.client_id, None)
        if going is not None:
            going.set()

    def _looked(self, client: viser.ClientHandle) -> None:
        camera = client.camera
        frustum = self._stood_in.get(client.client_id)
        if frustum is not None and np.linalg.norm(camera.position - frustum.position) > _FRUSTUM:
            self._stood_in.pop(client.client_id).visible = True
        look = look_of(camera.wxyz, camera.position, camera.fov, (camera.image_height, camera.image_width))
        if self._field_shown.value and look is not None:
            self._live.look(client.client_id, look)

    def _set_the_scene(self, arrays: PhotoArrays, poses: Float64[np.ndarray, "n 3 4"]) -> None:
        scene = self._server.scene
        scene.set_up_direction("+z")
        start = poses[arrays.train[0]]
        self._server.initial_camera.position = 1.6 * start[:, 3]  # behind the photos, not in one of them
        self._server.initial_camera.look_at = np.zeros(3)
        self._server.initial_camera.fov = fov_of(arrays, arrays.train[0])
        self._photos = scene.add_frame("/photos", show_axes=False)
        held_out = set(arrays.test)
        for place, pose in enumerate(poses):
            height, width = arrays.images[place].shape[:2]
            fov = fov_of(arrays, place)
            frustum = scene.add_camera_frustum(
                f"/photos/{place:05d}",
                fov=fov,
                aspect=width / height,
                scale=_FRUSTUM,
                thickness=0.0012,
                color=_HELD_OUT if place in held_out else _TRAINED,
                image=thumbnail(arrays.images[place]),
                wxyz=wxyz_of(pose),
                position=pose[:, 3],
                cast_shadow=False,
                receive_shadow=False,
            )
            frustum.on_click(partial(self._jump, frustum=frustum, pose=pose, fov=fov))
        self._cloud = self._add_cloud()
        self._mesh: viser.GlbHandle | None = None

    def _add_cloud(self) -> viser.PointCloudHandle | None:
        points = self._scan.scene.points
        if points is None:
            return None
        chosen = slice(None, None, max(1, math.ceil(len(points.xyz) / _MOST_POINTS)))
        xyz = self._scan.field_from_world.apply(points.xyz[chosen]).astype(np.float32)
        return self._server.scene.add_point_cloud(
            "/cloud", xyz, points.rgb[chosen], point_size=0.004, point_shape="circle", precision="float32"
        )

    def _add_mesh(self) -> None:
        """Once, in the background, between live pictures."""

        def patient(step: Any) -> None:
            """Between slabs of the grid the live pictures have their turn."""
            if self._closed.is_set():
                raise _Closed
            time.sleep(0.005)

        try:
            mesh = self._scan.mesh(resolution=_MESH_RESOLUTION, max_faces=_MESH_FACES, watch=patient)
        except (_Closed, CaptureError):
            self._mesh_shown.label = "Mesh (the field shows no surface)"
            return
        self._mesh = self._server.scene.add_glb(
            "/mesh", as_glb(mesh), visible=self._mesh_shown.value, cast_shadow=False, receive_shadow=False
        )
        self._mesh_shown.label = "Mesh"
        self._mesh_shown.disabled = False

    def _set_the_panel(self, trained: Float64[np.ndarray, "n 3 4"]) -> None:
        gui = self._server.gui
        gui.configure_theme(show_logo=False, show_share_button=False)
        gui.add_markdown(
            "Drag to turn, scroll to come closer, click a photo to stand where it was taken.  \n"
            "Blue: trained on. Orange: held out."
        )
        self._field_shown = gui.add_checkbox("Field, live", initial_value=True)
        photos = gui.add_checkbox("Photos", initial_value=True)
        self._mesh_shown = gui.add_checkbox("Mesh (on its way)", initial_value=False, disabled=True)
        pixels = tuple(map(str, _LONGEST))
        longest = gui.add_dropdown("Pixels", pixels, initial_value="640")
        samples = gui.add_dropdown("Samples a ray", _SAMPLES, initial_value="32")
        turn = gui.add_button("Orbit / stop")

        def show_cloud(_: object) -> None:
            assert self._cloud is not None
            self._cloud.visible = points.value

        if self._cloud is not None:
            points = gui.add_checkbox("Points", initial_value=True)
            points.on_update(show_cloud)

        def show_photos(_: object) -> None:
            self._photos.visible = photos.value

        def refine(_: object) -> None:
            if longest.value in pixels and samples.value in _SAMPLES:  # a page may say anything
                self._live.set_detail(Detail(longest=int(longest.value), samples=int(samples.value)))

        photos.on_update(show_photos)
        longest.on_update(refine)
        samples.on_update(refine)
        self._field_shown.on_update(lambda _: self._show_field())
        self._mesh_shown.on_update(lambda _: self._show_mesh())
        self._way = _try_orbit(trained)
        turn.visible = self._way is not None
        turn.on_click(lambda event: self._orbit(event.client))

    def _show_field(self) -> None:
        for page, client in self._server.get_clients().items():
            if self._field_shown.value:
                self._looked(client)
            else:
                self._live.forget(page)
                client.scene.set_background_image(None)

    def _show_mesh(self) -> None:
        if self._mesh is not None:
            self._mesh.visible = self._mesh_shown.value

    def _jump(
        self, event: Any, *, frustum: viser.CameraFrustumHandle, pose: Float64[np.ndarray, "3 4"], fov: float
    ) -> None:
        """Stand where a photo was taken; its picture, which would cover the field, goes until somebody walks on."""
        client: viser.ClientHandle = event.client
        frustum.visible = False
        self._stood_in[client.client_id] = frustum
        going = self._orbiting.pop(client.client_id, None)
        if going is not None:
            going.set()
        _place(client, pose, float(np.linalg.norm(pose[:, 3])))
        client.camera.fov = fov

    def _orbit(self, client: viser.ClientHandle | None) -> None:
        """Send a page's camera round the object, or stop it; on a thread of its own, since viser's are few."""
        way = self._way
        if client is None or way is None:
            return
        going = self._orbiting.pop(client.client_id, None)
        if going is not None:
            going.set()
            return
        stop = self._orbiting[client.client_id] = threading.Event()
        threading.Thread(target=_go_round, args=(client, way, stop), daemon=True).start()


class _Closed(Exception):
    """The viewer was closed while it made the mesh."""


def free_port(host: str, first: int) -> int:
    """The first port from `first` on that can be listened on.

    Raises:
        ConfigError: the address is none of this machine, or no port of the next fifty is free.
    """
    reason = ""
    for port in range(first, first + _PORTS_TRIED):
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            with socket.socket(family, socket.SOCK_STREAM) as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind((host, port))
        except (socket.gaierror, UnicodeError) as error:
            raise ConfigError(f"{host!r} is no address of this machine; leave --host out") from error
        except (OSError, OverflowError) as error:  # the latter: past the last port
            reason = getattr(error, "strerror", None) or str(error)
        else:
            return port
    raise ConfigError(
        f"cannot listen on {host} at port {first} or the {_PORTS_TRIED - 1} after it ({reason}); "
        "choose another --port or --host"
    )


def fov_of(arrays: PhotoArrays, place: int) -> float:
    """Vertical angle of view of a photo, radians, distortion left aside; a panorama is shown as 90 degrees."""
    focal = arrays.intrinsics[place, 1, 1]
    return 2 * math.atan(arrays.images[place].shape[0] / 2 / focal) if np.isfinite(focal) else math.pi / 2


def thumbnail(image: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "a b 3"]:
    """A small copy, every k-th pixel, without alpha."""
    stride = math.ceil(max(image.shape[:2]) / _THUMBNAIL)
    return np.ascontiguousarray(image[::stride, ::stride, :3])


def pose_of(wxyz: Float64[np.ndarray, "4"], position: Float64[np.ndarray, "3"]) -> Float64[np.ndarray, "3 4"]:
    """The pose that viser's numbers mean: OpenCV axes there too."""
    w, x, y, z = wxyz
    return np.concatenate([Rotation.from_quat([x, y, z, w]).as_matrix(), np.asarray(position)[:, None]], axis=1)


def wxyz_of(pose: Float64[np.ndarray, "3 4"]) -> Float64[np.ndarray, "4"]:
    """A pose's rotation in viser's order."""
    x, y, z, w = Rotation.from_matrix(pose[:, :3]).as_quat()
    return np.array([w, x, y, z])


def look_of(
    wxyz: Float64[np.ndarray, "4"], position: Float64[np.ndarray, "3"], fov_rad: float, size: tuple[int, int]
) -> Look | None:
    """The camera of a page, or None where what the page says is none: it may say anything."""
    height, width = size
    numbers = np.array([*wxyz, *position, fov_rad, height, width], np.float64)
    if not np.isfinite(numbers).all() or not 0 < fov_rad < math.pi or min(size) < 1:
        return None
    if not 1e-6 < np.linalg.norm(wxyz) < 1e6 or np.abs(position).max() > _FARTHEST_CAMERA:
        return None
    return Look(field_from_camera=pose_of(wxyz, position), fov_rad=fov_rad, aspect=width / height)


def _go_round(client: viser.ClientHandle, way: Float64[np.ndarray, "f 3 4"], stop: threading.Event) -> None:
    frame = 0
    while not stop.wait(timeout=_ORBIT_SECONDS / _ORBIT_FRAMES):
        pose = way[frame % len(way)]
        _place(client, pose, float(np.linalg.norm(pose[:, 3])))
        frame += 1


def _place(client: viser.ClientHandle, pose: Float64[np.ndarray, "3 4"], distance: float) -> None:
    """Put a page's camera at a pose, to be turned about the point at `distance` in front of it."""
    with client.atomic():
        client.camera.up_direction = -pose[:, 1]
        client.camera.position = pose[:, 3]
        client.camera.look_at = pose[:, 3] + distance * pose[:, 2]


def _try_orbit(trained: Float64[np.ndarray, "n 3 4"]) -> Float64[np.ndarray, "f 3 4"] | None:
    """The way round the object, where the photos allow one."""
    try:
        poses = orbit(trained, frames=_ORBIT_FRAMES).poses
    except CaptureError:
        return None
    poses[:, :, 3] *= 0.85  # inside the round of photos, whose pictures would stand in the way
    return poses
