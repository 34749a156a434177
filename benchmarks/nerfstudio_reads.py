"""Whether nerfstudio reads the cameras that `nndl-suite nerf export RUN --out transforms.json` writes.

    PEER_PYTHON benchmarks/nerfstudio_reads.py transforms.json

PEER_PYTHON is a Python that has nerfstudio (see README.md here). Prints one JSON object: photos read, and by how much
nerfstudio's poses and intrinsics differ from the file. Exits 1 where they do.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig


def main() -> int:
    """Read with nerfstudio, compare with the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("transforms", type=Path)
    file = parser.parse_args().transforms
    told = json.loads(file.read_text())
    reader = NerfstudioDataParserConfig(
        data=file,
        orientation_method="none",
        center_method="none",
        auto_scale_poses=False,
        load_3D_points=False,
        downscale_factor=1,
    ).setup()
    by_name = {Path(frame["file_path"]).name: frame for frame in told["frames"]}
    count, poses, lenses = 0, 0.0, 0.0
    for split in ("train", "val"):
        read = reader.get_dataparser_outputs(split=split)
        count += len(read.image_filenames)
        for index, image in enumerate(read.image_filenames):
            frame = by_name[image.name]
            theirs = read.cameras.camera_to_worlds[index].numpy()
            poses = max(poses, float(np.abs(theirs - np.array(frame["transform_matrix"])[:3]).max()))
            for ours, name in (("fl_x", "fx"), ("fl_y", "fy"), ("cx", "cx"), ("cy", "cy")):
                lenses = max(lenses, abs(float(getattr(read.cameras, name)[index]) - frame[ours]))
    found = {"photos": count, "of": len(told["frames"]), "pose": poses, "intrinsics_pixels": lenses}
    print(json.dumps(found))
    return 0 if found["photos"] == found["of"] and poses < 1e-5 and lenses < 1e-2 else 1


if __name__ == "__main__":
    sys.exit(main())
