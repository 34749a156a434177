"""Names and links that lead out of a folder: nothing is written where they lead, and nothing is unpacked there."""

import os
import zipfile
from pickle import dumps

import fuzz_targets
import pytest
import valid_inputs as valid

from nndl_suite.data import benchmarks
from nndl_suite.data.catalog import load_image_set
from nndl_suite.errors import CaptureError, DataError, RunError
from nndl_suite.nerf.capture import prepare_capture
from nndl_suite.nerf.readers import read_scene
from nndl_suite.representation.pretrain_run import PretrainRun
from nndl_suite.training.files import write_json
from nndl_suite.training.runs import RunFolder

_BYTES = b"not to be touched"


def test_links_in_a_capture_are_read_and_never_written_through(tmp_path):
    capture, elsewhere = tmp_path / "capture", tmp_path / "elsewhere"
    valid.photos(elsewhere, [f"{n}.png" for n in range(6)])
    before = {file.name: file.read_bytes() for file in elsewhere.iterdir()}
    capture.mkdir()
    for name in before:
        (capture / name).symlink_to(elsewhere / name)
    (capture / "loop.png").symlink_to(capture / "loop.png")
    found = prepare_capture(capture, tmp_path / "work", masks=tmp_path / "masks", max_side=16, video_frames=5)
    assert len(found.names) == 6
    assert {file.name: file.read_bytes() for file in elsewhere.iterdir()} == before
    assert not any(file.is_symlink() for file in (tmp_path / "work").iterdir())


def test_a_work_folder_that_is_a_link_is_not_emptied_through_it(tmp_path):
    valid.photos(tmp_path / "capture", [f"{n}.png" for n in range(6)])
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "0.png").write_bytes(_BYTES)
    (tmp_path / "work").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="work"):
        prepare_capture(tmp_path / "capture", tmp_path / "work", masks=tmp_path / "m", max_side=16, video_frames=5)
    assert (tmp_path / "elsewhere" / "0.png").read_bytes() == _BYTES


def test_a_file_that_is_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "theirs").write_bytes(_BYTES)
    (tmp_path / "result.json").symlink_to(tmp_path / "theirs")
    write_json(tmp_path / "result.json", {"a": 1})
    assert (tmp_path / "theirs").read_bytes() == _BYTES
    assert not (tmp_path / "result.json").is_symlink()


def test_a_log_that_is_a_link_is_not_written_through(tmp_path):
    (tmp_path / "theirs").write_bytes(_BYTES)
    (tmp_path / "metrics.jsonl").symlink_to(tmp_path / "theirs")
    with pytest.raises(RunError, match=r"metrics\.jsonl is a link"):
        RunFolder(tmp_path).log({"step": 1})
    assert (tmp_path / "theirs").read_bytes() == _BYTES


def test_folders_that_go_round_in_circles_are_read_once(tmp_path):
    valid.folders(tmp_path)
    (tmp_path / "cat" / "again").symlink_to(tmp_path)
    (tmp_path / "round").symlink_to(tmp_path / "round")
    images = load_image_set(f"folder:{tmp_path}", "train", image_size=8)
    assert images.class_names == ("cat", "dog")


def test_a_name_that_is_no_text_is_refused_before_the_training(tmp_path):
    valid.folders(tmp_path)
    os.rename(os.fsencode(tmp_path / "cat"), os.fsencode(tmp_path) + b"/c\xff")
    with pytest.raises(DataError, match="not valid Unicode") as refused:
        load_image_set(f"folder:{tmp_path}", "train", image_size=8)
    str(refused.value).encode()


@pytest.mark.parametrize("checkpoint", ["../weights.safetensors", "/etc/passwd", "a\0b"])
def test_a_runs_weights_lie_in_the_run(tmp_path, checkpoint):
    valid.pretrain_run(tmp_path)
    run = RunFolder(tmp_path / "simclr")
    write_json(run.path / "result.json", {**(run.result() or {}), "checkpoint": checkpoint})
    with pytest.raises(RunError, match=r"result\.json.*leads out of the run"):
        PretrainRun.read(run.path)


@pytest.mark.colmap
@pytest.mark.parametrize("name", ["../../secret.png", "/etc/secret.png", "1.png"])
def test_a_colmap_model_names_photos_of_its_capture_once(tmp_path, name):
    (tmp_path / "secret.png").write_bytes(_BYTES)
    valid.colmap_text(tmp_path / "capture")
    images = tmp_path / "capture" / "sparse" / "0" / "images.txt"
    images.write_text(images.read_text().replace(" 2.png\n", f" {name}\n"))
    with pytest.raises((CaptureError, DataError), match="COLMAP model") as refused:
        read_scene(tmp_path / "capture")
    assert str(tmp_path / "capture") in str(refused.value)


def test_an_archive_of_another_checksum_is_not_unpacked(tmp_path, monkeypatch):
    """Tiny ImageNet's, where somebody else's lies in its place and there is no network."""
    with zipfile.ZipFile(tmp_path / "tiny-imagenet-200.zip", "w") as archive:
        archive.writestr("../escaped.txt", "x")
        archive.writestr("tiny-imagenet-200/train/a.txt", "x")

    def no_network(*_, **__):
        raise OSError("no network here")

    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, **_: url)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", no_network)
    with pytest.raises(DataError, match="could not be downloaded"):
        load_image_set("tiny-imagenet", "train", data_root=tmp_path)
    assert not (tmp_path.parent / "escaped.txt").exists()
    assert not (tmp_path / "tiny-imagenet-200" / "train").exists()


def test_cifars_pickle_is_opened_after_its_checksum_alone(tmp_path):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    fuzz_targets._cifar_make(tmp_path)
    fuzz_targets._cifar(tmp_path)
    for name in ("train", "meta"):
        kept = (tmp_path / "cifar-100-python" / name).read_bytes()
        (tmp_path / "cifar-100-python" / name).write_bytes(dumps({"data": Payload(), "fine_labels": []}))
        with pytest.raises(DataError, match="cifar100 is not in"):
            fuzz_targets._cifar(tmp_path)
        (tmp_path / "cifar-100-python" / name).write_bytes(kept)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("line", ["../../x.JPEG\tn01", "val_0.JPEG\tn99", "val_0.JPEG", "a/b.JPEG\tn01\t0"])
def test_tiny_imagenets_list_names_images_and_classes(tmp_path, line):
    valid.photos(tmp_path / "tiny-imagenet-200", ["train/n01/images/a.jpg", "val/images/val_0.jpg"])
    (tmp_path / "tiny-imagenet-200" / "val" / "val_annotations.txt").write_text(f"{line}\n")
    with pytest.raises(DataError, match=r"val_annotations\.txt, line 1"):
        benchmarks.read_tiny_imagenet(tmp_path, "test", 8, lambda _: None)
