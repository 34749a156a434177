"""A radiance field of the built-in capture, from its bare photos (about two minutes on two cores).

With your own: python reconstruction.py photos/   or   python reconstruction.py clip.mp4
"""

import sys
from pathlib import Path
from tempfile import mkdtemp

from nndl_suite import ColmapNerfReconstructor
from nndl_suite.data.demo_capture import make_demo_capture

out = Path(mkdtemp(prefix="reconstruction-"))
capture = Path(sys.argv[1]) if len(sys.argv) > 1 else make_demo_capture(out / "capture") / "images"
scan = ColmapNerfReconstructor(capture, out=out / "run", seed=0)
print(scan.estimate_poses())
scan.fit(minutes=1)
print(f"{scan.evaluate().psnr:.2f} dB on held-out photos")
scan.render_orbit(out / "orbit.mp4", frames=60)
scan.export_point_cloud(out / "cloud.ply")
scan.export_mesh(out / "mesh.glb", frame="upright")
scan.export_cameras(out / "transforms.json")  # for nerfstudio, instant-ngp; a folder's name for COLMAP's text

# A model of your own starts here: the photos as they are trained on, their cameras and rays, and what is held out.
arrays = scan.arrays()
photo = arrays.train[0]
origin = arrays.world_from_camera[photo, :, 3]
rays = arrays.directions[photo] @ arrays.world_from_camera[photo, :, :3].T  # [h, w, 3], distortion undone
tensors = arrays.tensors()  # images [c, h, w] in [0, 1], intrinsics [n, 3, 3], world_from_camera [n, 3, 4]
print(
    f"{len(arrays.train)} photos to train on; {arrays.names[photo]}: {tuple(tensors.images[photo].shape)} from {origin}"
)
print(f"see {out}")
