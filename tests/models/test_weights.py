"""Weights go in whole or not at all, and what does not fit is named."""

from urllib.error import URLError

import pytest
import torch
from torchvision.models import resnet18, resnet34, resnet50

from nndl_suite.data.image_set import resident_set
from nndl_suite.errors import ConfigError, DataError
from nndl_suite.models import weights as weights_module
from nndl_suite.models.backbones import build_backbone
from nndl_suite.models.normalisation import IMAGENET, Normalisation, measure_normalisation
from nndl_suite.models.weights import (
    fitting_stem,
    imagenet_backbone,
    load_into,
    read_header,
    read_state_dict,
    save_backbone,
)


@pytest.fixture(scope="module")
def reference():
    return resnet18().eval()


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}}])
def test_a_torchvision_file_loads_whole(tmp_path, reference, wrap):
    torch.save(wrap(reference.state_dict()), tmp_path / "w.pth")
    backbone = build_backbone("resnet18", stem="imagenet", image_size=64).eval()
    load_into(backbone, read_state_dict(tmp_path / "w.pth"), source="w.pth")
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(reference.fc(backbone(images)), reference(images))


def test_a_saved_backbone_describes_itself_and_torchvision_reads_it(tmp_path):
    backbone = build_backbone("resnet18-slim", image_size=32)
    normalisation = Normalisation(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    save_backbone(tmp_path / "b.safetensors", backbone, image_size=32, normalisation=normalisation)
    header = read_header(tmp_path / "b.safetensors")
    assert header is not None
    assert (header.backbone, header.stem, header.image_size) == ("resnet18-slim", "cifar", 32)
    assert header.normalisation == normalisation
    state = read_state_dict(tmp_path / "b.safetensors")
    assert set(state) == {name for name in resnet18().state_dict() if not name.startswith("fc.")}
    again = build_backbone("resnet18-slim", image_size=32)
    load_into(again, state, source="b")
    assert all(
        torch.equal(a, b) for a, b in zip(again.state_dict().values(), backbone.state_dict().values(), strict=True)
    )


def test_no_changed_bit_is_taken_for_a_weight(tmp_path):
    file, backbone = tmp_path / "b.safetensors", build_backbone("resnet18-slim", image_size=32)
    save_backbone(file, backbone, image_size=32, normalisation=IMAGENET)
    content, whole, header = file.read_bytes(), read_state_dict(file), read_header(file)
    length = 8 + int.from_bytes(content[:8], "little")
    bits = [*range(8), *range(8, length, 89), *range(length, len(content), len(content) // 60), len(content) - 1]
    start, end = content.index(b'"__metadata__'), content.index(b"}", content.index(b'"__metadata__'))
    refused = []
    for place in [*bits, *range(start, end, 3)]:
        file.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        try:
            told, found = read_header(file), read_state_dict(file)
        except DataError as error:
            refused.append(str(error))
            continue
        assert (told, set(found)) == (header, set(whole))  # a changed blank, or the checksum's own key
        assert all(torch.equal(found[name], tensor) for name, tensor in whole.items())
    assert len(refused) > 0.9 * len(bits)
    assert all(str(file) in told for told in refused)
    for keep in (0, 7, length - 1, length, len(content) - 1):
        file.write_bytes(content[:keep])
        with pytest.raises(DataError, match=r"b\.safetensors"):
            read_state_dict(file)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: resnet50().state_dict(), "looks like a resnet50"),
        (lambda: resnet34().state_dict(), "unexpected layer1.2.conv1.weight.* more; it looks like a resnet34"),
        (lambda: {f"backbone.{k}": v for k, v in resnet18().state_dict().items()}, "cut 'backbone.' off"),
        (lambda: {"a": torch.zeros(1)}, "missing conv1.weight, .* unexpected a; it is of another network"),
        (lambda: build_backbone("resnet18", image_size=32).trunk.state_dict(), r"conv1.weight is \[64, 3, 3, 3\]"),
    ],
)
def test_what_does_not_fit_is_named(make, told):
    backbone = build_backbone("resnet18", stem="imagenet", image_size=32)
    before = backbone.trunk.conv1.weight.clone()
    with pytest.raises(DataError, match=told):
        load_into(backbone, make(), source="w.pth")
    assert torch.equal(backbone.trunk.conv1.weight, before)


def test_the_stem_is_read_off_the_weights(reference):
    assert fitting_stem(reference.state_dict(), "auto") == "imagenet"
    assert fitting_stem(build_backbone("resnet18", image_size=32).trunk.state_dict(), "auto") == "cifar"
    assert fitting_stem(reference.state_dict(), "cifar") == "cifar"


def test_unreadable_files_are_told_kindly(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_state_dict(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save(resnet18, tmp_path / "code.pth")
    for name in ("text.pth", "text.safetensors", "list.pth", "code.pth"):
        with pytest.raises(DataError, match=name):
            read_state_dict(tmp_path / name)
    with pytest.raises(DataError, match="text.safetensors"):
        read_header(tmp_path / "text.safetensors")


def test_imagenet_weights_offline_name_the_file_and_the_place(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(
        weights_module.get_model_weights("resnet18")["IMAGENET1K_V1"].__class__,
        "get_state_dict",
        lambda *_, **__: (_ for _ in ()).throw(URLError("no network")),
    )
    with pytest.raises(DataError, match=r"put resnet18-f37072fd.pth there") as caught:
        imagenet_backbone("resnet18", image_size=32)
    assert str(tmp_path / "checkpoints") in str(caught.value)
    with pytest.raises(ConfigError, match="no ImageNet weights for resnet18-slim"):
        imagenet_backbone("resnet18-slim", image_size=32)


def test_normalisation_is_measured_from_the_pixels():
    images = torch.randint(0, 256, (70, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[:, 2] = 7  # a channel without any variation
    measured = measure_normalisation(resident_set("x", images, None, ()))
    pixels = images.double() / 255
    for channel in range(3):
        assert measured.mean[channel] == pytest.approx(pixels[:, channel].mean().item(), abs=6e-5)
    assert measured.std[0] == pytest.approx(pixels[:, 0].std(correction=0).item(), abs=6e-5)
    assert measured.std[2] > 0
    normalised = measured(images)
    torch.testing.assert_close(normalised, measured(images.float() / 255))
    assert abs(normalised[:, :2].mean().item()) < 1e-3
    with pytest.raises(ConfigError, match="> 0"):
        Normalisation(mean=(0, 0, 0), std=(1, 1, 0))


@pytest.mark.realdata
def test_the_real_imagenet_file_loads(real_data):
    state = read_state_dict(real_data / "weights" / "resnet18_imagenet_bgd.pth")
    backbone = build_backbone("resnet18", stem=fitting_stem(state, "auto"), image_size=32)
    load_into(backbone, state, source="bgd")
    assert backbone.stem == "imagenet"
    assert IMAGENET.mean[0] == 0.485


def test_a_whole_model_and_what_is_no_weights_are_told_apart(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pth")
    (tmp_path / "junk.pth").write_bytes(b"hello")
    with pytest.raises(DataError, match=r"model\.pth: it holds more than tensors.*torch\.save\(model\.state_dict"):
        read_state_dict(tmp_path / "model.pth")
    with pytest.raises(DataError, match=r"junk\.pth: it is damaged, or no file of weights"):
        read_state_dict(tmp_path / "junk.pth")
