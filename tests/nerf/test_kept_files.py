"""What a reconstruction keeps beside its checkpoints: taken as it was written, or refused by name."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from nndl_suite.errors import CaptureError, NndlError, RunError
from nndl_suite.nerf.cameras import Camera
from nndl_suite.nerf.field import FieldSettings, load_field, new_field
from nndl_suite.nerf.frame import Similarity
from nndl_suite.nerf.reconstructor import ColmapNerfReconstructor
from nndl_suite.nerf.refined_poses import with_refined_poses, write_refined_poses
from nndl_suite.nerf.request import fingerprint, settle_budget
from nndl_suite.nerf.scene import PoseReport, Scene, View
from nndl_suite.training.checkpoints import Checkpoint, save_checkpoint
from nndl_suite.training.runs import RunFolder

STAY = Similarity(scale=1.0, rotation=np.eye(3), translation=np.zeros(3))


def scene_of(count: int) -> Scene:
    view = np.eye(3, 4)
    return Scene(
        root=Path(),
        cameras=(Camera(model="PINHOLE", width=4, height=3, params=(4.0, 4.0, 2.0, 1.5)),),
        views=tuple(View(name=f"{n}", image=Path(), camera=0, world_from_camera=view) for n in range(count)),
        test_names=frozenset(),
        points=None,
        poses=PoseReport(registered=count, total=count, mean_reprojection_error=None),
    )


def test_refined_poses_come_back_or_are_refused(tmp_path: Path):
    scene, file = scene_of(2), tmp_path / "poses_refined.json"
    turned = Rotation.from_rotvec([[0.3, -0.2, 0.1], [1.0, 2.0, -0.5]]).as_matrix()
    moved = np.concatenate([turned, [[[1.5], [-2.25], [0.1]], [[3e-3], [7.0], [-0.7]]]], axis=2).astype(np.float32)
    write_refined_poses(file, scene, (0, 1), moved, STAY)
    content, refused = file.read_bytes(), list[str]()

    def check() -> None:
        for view, pose in zip(with_refined_poses(scene, file).views, moved, strict=True):
            np.testing.assert_array_equal(view.world_from_camera, pose)

    check()
    for place in range(0, len(content), 3):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            check()
        except RunError as error:
            refused.append(str(error))
    assert len(refused) > 0.5 * len(content) / 3
    assert all("poses_refined.json" in told for told in refused)
    for spoilt in ("{}", '{"cameras": [{"name": "0"}]}', '{"cameras": [{"name": "0", "world_from_camera": [1]}]}'):
        file.write_text(spoilt)
        with pytest.raises(RunError, match=r"poses_refined\.json is damaged .*; delete it"):
            with_refined_poses(scene, file)


def test_a_budget_is_kept_or_refused(tmp_path: Path):
    run = RunFolder(tmp_path)
    budget = settle_budget(run, None, 30)
    assert settle_budget(run, None, None) == budget
    file = tmp_path / "budget.json"
    file.write_text(file.read_text().replace("30", "38"))
    with pytest.raises(RunError, match=r"budget\.json is damaged"):
        settle_budget(run, None, None)
    file.write_text("{}")
    with pytest.raises(RunError, match=r"budget\.json is damaged"):
        settle_budget(run, None, None)
    file.write_text('{"minutes": null, "steps": 30}')  # of an earlier version
    assert settle_budget(run, None, None) == budget


def test_a_run_on_a_changed_capture_is_refused(tmp_path: Path):
    capture = tmp_path / "capture"
    capture.mkdir()
    frames = []
    for n in range(9):
        Image.new("RGB", (8, 6), (n, n, n)).save(capture / f"{n}.png")
        pose = [[1, 0, 0, n], [0, 1, 0, 0], [0, 0, 1, n * n], [0, 0, 0, 1]]
        frames.append({"file_path": f"{n}.png", "transform_matrix": pose})
    transforms = {"w": 8, "h": 6, "fl_x": 8.0, "fl_y": 8.0, "cx": 4.0, "cy": 3.0, "frames": frames}
    (capture / "transforms.json").write_text(json.dumps(transforms))
    out = tmp_path / "run"
    assert ColmapNerfReconstructor(capture, out=out).estimate_poses().registered == 9
    assert ColmapNerfReconstructor(capture, out=out).estimate_poses(resume=True).registered == 9
    (capture / "3.png").write_bytes((capture / "3.png").read_bytes() + b" ")
    with pytest.raises(RunError, match="the capture's files have changed"):
        ColmapNerfReconstructor(capture, out=out).estimate_poses(resume=True)


def test_a_capture_that_is_gone_is_named(tmp_path: Path):
    with pytest.raises(CaptureError, match="gone does not exist any more"):
        fingerprint(tmp_path / "gone")


def test_a_field_that_this_version_does_not_know_is_refused(tmp_path: Path):
    state = new_field(FieldSettings(log2_rows=8, finest=64), seed=0).state()
    for change in ({"settings": {"log2_rows": 8, "unheard_of": 1, "background": None}}, {"table": None}):
        save_checkpoint(tmp_path / "checkpoints", Checkpoint(step=7, seconds=0, state={"field": state | change}))
        with pytest.raises(NndlError, match="checkpoint of step 7 .* holds no field that this version knows"):
            load_field(RunFolder(tmp_path))
