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
print(f"see {out}")
