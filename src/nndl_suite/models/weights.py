"""Weights of backbones: reading other people's files strictly, and writing our own so that others can read them.

A file written here is safetensors with the network's own (torchvision or timm) keys, and says in its header which
network it is, with which stem, and how its images were normalised.
"""

import hashlib
import json
import math
import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.error import URLError

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torchvision.models import get_model_weights

from nndl_suite.errors import ConfigError, DataError
from nndl_suite.models.backbones import Backbone, Stem, build_backbone
from nndl_suite.models.normalisation import Channels, Normalisation
from nndl_suite.training.tensor_files import CHECKSUM, checksum, sealed, tensors_of, write_tensors

StateDict = dict[str, Tensor]

_UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    SafetensorError,
    pickle.UnpicklingError,
    ArithmeticError,  # from here on: torch's unpickler, fed with a file of another kind
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    TypeError,
    ValueError,
    struct.error,
)

_LARGEST_SIZE = 2048
_LARGE_BYTES = 2**30
_FORMAT = "nndl-suite backbone 1"
_CLASSIFIERS = ("fc.", "head.", "classifier.")
"""What networks call their last layer; a backbone has none."""
_WRAPPERS = ("state_dict", "model")
"""Keys under which training scripts keep the weights beside other things."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneHeader:
    """What a backbone file says of itself."""

    backbone: str
    stem: Literal["cifar", "imagenet"]
    image_size: int
    """Pixels; of the images it was trained on."""
    normalisation: Normalisation


def save_backbone(file: Path, backbone: Backbone, *, image_size: int, normalisation: Normalisation) -> None:
    """Write a backbone's weights and description, atomically."""
    described = {
        "format": _FORMAT,
        "backbone": backbone.name,
        "stem": backbone.stem,
        "image_size": str(image_size),
        "mean": json.dumps(normalisation.mean),
        "std": json.dumps(normalisation.std),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in backbone.trunk.state_dict().items()}
    write_tensors(file, tensors, sealed(described, tensors))


def read_header(file: Path) -> BackboneHeader | None:
    """What a file written by `save_backbone` says of itself; None for a file from elsewhere."""
    if file.suffix != ".safetensors":
        return None
    try:
        with safe_open(file, framework="pt") as content:
            header = content.metadata() or {}
        if header.get("format") != _FORMAT:
            return None
        return BackboneHeader(
            backbone=header["backbone"],
            stem="cifar" if header["stem"] == "cifar" else "imagenet",
            image_size=_image_size(header["image_size"]),
            normalisation=Normalisation(mean=_channels(header["mean"]), std=_channels(header["std"])),
        )
    except _UNREADABLE as error:
        raise DataError(f"{file} is not a readable safetensors file ({error})") from error


def _image_size(stated: str) -> int:
    size = int(stated)
    if not 1 <= size <= _LARGEST_SIZE:
        raise ValueError(f"image_size must be 1 to {_LARGEST_SIZE} pixels, got {size}")
    return size


def _channels(stated: str) -> Channels:
    red, green, blue = map(float, json.loads(stated))
    if not all(map(math.isfinite, (red, green, blue))):
        raise ValueError(f"mean and std must be finite numbers, got {stated}")
    return red, green, blue


def read_state_dict(file: Path) -> StateDict:
    """The tensors of a `.safetensors` file or of a `torch.save`d state dict (`.pth`, `.pt`); nothing is unpickled.

    Raises:
        DataError: there is no such file, it holds something else, or it does not fit the checksum that it has.
    """
    if not file.is_file():
        raise DataError(f"no weights at {file.resolve()}: there is no such file")
    try:
        if file.suffix == ".safetensors":
            return _read_safetensors(file)
        _check_unpacked(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise DataError(f"cannot read weights from {file}: {_why_unreadable(error)}") from error
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise DataError(f"{file} holds no state dict (names to tensors); save model.state_dict()")
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def _read_safetensors(file: Path) -> StateDict:
    with safe_open(file, framework="pt") as opened:
        header = opened.metadata() or {}
        tensors = tensors_of(opened)
    if CHECKSUM in header and header[CHECKSUM] != checksum(header, tensors):
        raise DataError(f"{file} is damaged (what it holds does not fit its checksum); copy or make it again")
    return tensors


def _check_unpacked(file: Path) -> None:
    """Refuse a zip that unpacks to far more than is in it; torch packs nothing when it saves.

    Raises:
        ValueError: it would.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except zipfile.BadZipFile:
        return  # the older format, or damaged: torch says so
    if unpacked > max(_LARGE_BYTES, 4 * file.stat().st_size):
        raise ValueError(f"its {file.stat().st_size:,} bytes would unpack to {unpacked:,}")


def load_into(backbone: Backbone, weights: Mapping[str, Tensor], *, source: str) -> None:
    """Copy weights into a backbone; every tensor must find its place, but for a classifier's.

    Raises:
        DataError: keys or shapes differ; the message names them.
    """
    expected = backbone.trunk.state_dict()
    given = {name: tensor for name, tensor in weights.items() if name in expected or not name.startswith(_CLASSIFIERS)}
    missing = [name for name in expected if name not in given]
    unexpected = [name for name in given if name not in expected]
    if missing or unexpected:
        raise DataError(
            f"{source} does not fit {backbone.name}: {_listed('missing', missing)}{_listed('unexpected', unexpected)}"
            f"it {_looks_like(given)}"
        )
    for name, tensor in given.items():
        if tensor.shape != expected[name].shape:
            raise DataError(
                f"{source} does not fit {backbone.name} with the {backbone.stem} stem: {name} is {list(tensor.shape)}, "
                f"expected {list(expected[name].shape)}; it {_looks_like(given)}"
            )
    backbone.trunk.load_state_dict(given)


def fitting_stem(weights: Mapping[str, Tensor], stem: Stem) -> Stem:
    """The stem that weights of a ResNet were trained with, where `auto` leaves it to them."""
    first = weights.get("conv1.weight")
    if stem != "auto" or first is None:
        return stem
    return "cifar" if first.shape[-1] == 3 else "imagenet"


def imagenet_backbone(name: str, *, image_size: int) -> Backbone:
    """A backbone with torchvision's ImageNet weights, from torch's hub cache or downloaded into it.

    Raises:
        ConfigError: torchvision has no weights for this name.
        DataError: the weights are not in the cache and cannot be downloaded.
    """
    backbone = build_backbone(name, stem="imagenet", image_size=image_size)
    try:
        weights = get_model_weights(name)["IMAGENET1K_V1"]
    except (KeyError, ValueError) as error:
        raise ConfigError(f"there are no ImageNet weights for {name}; give a state-dict file instead") from error
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    file = str(weights.url).rsplit("/", 1)[-1]
    _check_digest(cache / file)
    try:
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (URLError, *_UNREADABLE) as error:
        raise DataError(
            f"ImageNet weights for {name} are not in {cache} and could not be downloaded ({error}); "
            f"put {file} there, or give any state-dict file of a {name} as features"
        ) from error
    load_into(backbone, state, source=f"torchvision's {name} weights")
    return backbone


def _check_digest(file: Path) -> None:
    """Refuse a kept file that does not have the digest in its name: torch looks at it only when it downloads."""
    expected = file.stem.rpartition("-")[2]
    if not file.is_file() or not re.fullmatch("[0-9a-f]{8,}", expected):
        return
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if not found.startswith(expected):
        raise DataError(f"{file} is damaged (its SHA-256 begins with {found[:8]}, not {expected}); delete it")


def _listed(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{what} {', '.join(names[:3])}{more}; "


def _why_unreadable(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error):  # a class or function that it names
        return (
            "it holds more than tensors, which could run code and is not loaded; "
            "where the model is at hand, save its state dict: torch.save(model.state_dict(), FILE)"
        )
    told = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"it is damaged, or no file of weights ({told}); give a state dict, as torch.save or safetensors writes it"


def _looks_like(weights: Mapping[str, Tensor]) -> str:
    """A guess at the network behind some keys, to follow "it"."""
    names = set(weights)
    if any(name.startswith("layer1.") for name in names):
        bottleneck = "layer1.0.conv3.weight" in names
        depth = ("resnet50 or deeper" if bottleneck else "resnet34") if "layer3.3.conv1.weight" in names else "resnet18"
        stem = "cifar" if fitting_stem(weights, "auto") == "cifar" else "imagenet"
        return f"looks like a {depth} with the {stem} stem"
    inner = next((name for name in names if ".layer1." in name), None)
    if inner is not None:
        prefix = inner[: inner.index("layer1.")]
        return f"looks like a ResNet inside another model: cut {prefix!r} off its keys"
    if any(name.startswith("patch_embed.") for name in names):
        return "looks like a timm vision transformer"
    return "is of another network; name it with --backbone, as timm does"
