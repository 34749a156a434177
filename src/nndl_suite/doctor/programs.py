"""Do the parts work that live outside Python: COLMAP, video and photo codecs, the compiler of the kernels?"""

import os
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from nndl_suite.doctor.finding import Finding, set_line
from nndl_suite.training.files import Json


def check_colmap() -> Finding:
    """COLMAP answers, in the child process where it always runs."""
    from importlib.metadata import version  # noqa: PLC0415

    from nndl_suite.nerf.colmap import ask_colmap  # noqa: PLC0415

    camera: dict[str, Json] = {"model": "SIMPLE_PINHOLE", "width": 4, "height": 2, "params": [2.0, 2.0, 1.0]}
    rays = ask_colmap("directions", {"cameras": [camera]}).arrays["0"]
    if rays.shape != (8, 3) or not np.allclose(np.linalg.norm(rays, axis=1), 1):
        raise RuntimeError("it gives wrong rays for a camera without distortion")
    return Finding(name="COLMAP", found=f"answers (pycolmap {version('pycolmap')}, in a process of its own)")


def check_video() -> Finding:
    """H.264 in MP4 can be written and read back."""
    import av  # noqa: PLC0415

    from nndl_suite.nerf.clip import sharpest_frames  # noqa: PLC0415
    from nndl_suite.nerf.video import write_video  # noqa: PLC0415

    grey = np.full((64, 64, 3), 128, dtype=np.uint8)
    with tempfile.TemporaryDirectory(prefix="nndl-suite-") as scratch:
        file = Path(scratch) / "grey.mp4"
        write_video([grey] * 4, file)
        frames = [frame for _, frame in sharpest_frames(file, 2)]
    if len(frames) != 2 or not np.allclose(frames[0], grey, atol=8):
        raise RuntimeError("an H.264 video does not come back as it was written")
    return Finding(name="video", found=f"H.264 in MP4 is written and read (PyAV {av.__version__})")


def check_heic() -> Finding:
    """Phones' HEIC photos can be read; written too where the library has an encoder, which is how this tries it."""
    import pillow_heif  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415

    from nndl_suite.nerf.decode import open_photo  # noqa: PLC0415

    about = f"libheif {pillow_heif.libheif_version()}"
    with tempfile.TemporaryDirectory(prefix="nndl-suite-") as scratch:
        file = Path(scratch) / "grey.heic"
        try:
            pillow_heif.from_pillow(Image.new("RGB", (64, 64), (128, 128, 128))).save(file)
        except (RuntimeError, ValueError, KeyError):
            return Finding(name="HEIC photos", found=f"read by {about}; not tried, it cannot write one")
        with open_photo(file) as photo:
            middle = photo.convert("RGB").getpixel((32, 32))
    if not isinstance(middle, tuple) or not np.allclose(middle, 128, atol=8):
        raise RuntimeError("a HEIC photo does not come back as it was written")
    return Finding(name="HEIC photos", found=f"read ({about})")


def check_kernels() -> Finding:
    """The CPU kernels can be kept once they are compiled."""
    found = find_spec("nndl_suite")
    assert found is not None
    assert found.submodule_search_locations is not None
    package = Path(found.submodule_search_locations[0])
    return judge_kernels(package, os.environ, Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"))


def judge_kernels(package: Path, environment: Mapping[str, str], cache: Path) -> Finding:
    """Where numba will keep compiled kernels: the first of its three places that can be written.

    Args:
        package: The folder of nndl_suite.
        environment: Its variables.
        cache: The user's cache.
    """
    asked = environment.get("NUMBA_CACHE_DIR")
    beside = [package / "nerf" / "kernels" / "__pycache__", package / "representation" / "__pycache__"]
    if asked:
        if not can_write(Path(asked)):
            return _no_cache(f"NUMBA_CACHE_DIR is {asked}, which cannot be written")
        return _kept(Path(asked), asked)
    if all(can_write(folder) for folder in beside):
        return _kept(package, "beside the package")
    if can_write(cache / "numba"):
        return _kept(cache / "numba", str(cache / "numba"))
    return _no_cache(f"neither {package} nor {cache} can be written, so numba refuses to load the kernels")


def _kept(folder: Path, told: str) -> Finding:
    number = sum(1 for _ in folder.rglob("*.nbi"))
    ready = f"{number} compiled" if number else "none compiled yet, so their first use takes longer"
    return Finding(name="CPU kernels", found=f"{ready}; kept {told if told.startswith('beside') else f'in {told}'}")


def _no_cache(reason: str) -> Finding:
    place = str(Path(tempfile.gettempdir()) / "numba")
    return Finding(name="CPU kernels", found=reason, state="fail", cure=set_line("NUMBA_CACHE_DIR", place))


def can_write(folder: Path) -> bool:
    """Whether a file can be made in a folder, or in the nearest one above that is there; nothing is left behind."""
    there = next((place for place in (folder, *folder.absolute().parents) if place.exists()), folder)
    try:
        with tempfile.TemporaryFile(dir=there):
            return True
    except OSError:
        return False
