"""Vision Transformers of small images (arXiv 2010.11929) by their sizes, and the kinds of them that have names."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal, cast, get_args

from timm.layers.attention import Attention
from timm.layers.patch_embed import PatchEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from nndl_suite.comparison.vit_parts import ConvolutionalStem, LocalSelfAttention, ShiftedPatches, stem_widths
from nndl_suite.errors import ConfigError, unknown_name

VitName = Literal["vit", "vit-patch2", "vit-pool", "vit-spt-lsa", "vit-conv"]
"""`vit`: 8 x 8 patches and a class token. `vit-patch2`: patches of 2 x 2 pixels. `vit-pool`: the mean of all tokens in
place of the class token. `vit-spt-lsa`: shifted patches and local self-attention (arXiv 2112.13492). `vit-conv`:
convolutions in place of patches (arXiv 2106.14881)."""

_TOKENS_PER_SIDE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class VitShape:
    """What a ViT is made of: learned positions, pre-norm blocks, biases everywhere."""

    image_size: int
    num_classes: int
    patch: int
    """Pixels on each side; a convolutional stem shrinks the image by as much."""
    width: int
    depth: int
    head_dim: int
    mlp_width: int
    tokeniser: Literal["patches", "shifted-patches", "convolutions"] = "patches"
    attention: Literal["global", "local"] = "global"
    summary: Literal["class-token", "mean"] = "class-token"
    """What the classifier reads."""

    def __post_init__(self) -> None:
        if self.image_size % self.patch:
            raise ConfigError(
                f"patches of {self.patch} px need an image size that is a multiple of {self.patch}, "
                f"got {self.image_size} px; choose another image size"
            )
        if self.tokeniser == "convolutions" and (self.patch < 2 or self.patch & (self.patch - 1)):
            raise ConfigError(
                f"a convolutional stem halves the image some times, {self.patch} px is no such patch; "
                f"choose an image size of 16, 32, 64 or 128 px, not {self.image_size}"
            )
        if self.width % self.head_dim:
            raise ConfigError(f"width must be a multiple of the heads' {self.head_dim}, got {self.width}")

    def __str__(self) -> str:
        words = {
            "shifted-patches": "shifted patches",
            "convolutions": "convolutional stem",
            "local": "local attention",
            "mean": "mean of tokens",
        }
        heads = f"{self.heads} head{'s' if self.heads > 1 else ''} of {self.head_dim}"
        sizes = f"width {self.width}, depth {self.depth}, {heads}, MLP {self.mlp_width}, patch {self.patch}"
        parts = (self.tokeniser, self.attention, self.summary)
        return ", ".join([sizes, *(words[part] for part in parts if part in words)])

    @property
    def heads(self) -> int:
        """Heads of each attention."""
        return self.width // self.head_dim

    @property
    def patches(self) -> int:
        """Tokens without the class token."""
        return (self.image_size // self.patch) ** 2

    @property
    def tokens(self) -> int:
        """Tokens with the class token, where there is one."""
        return self.patches + (self.summary == "class-token")

    @property
    def parameters(self) -> int:
        """The parameter count, in closed form."""
        d, m = self.width, self.mlp_width
        attention = 4 * d * d + 4 * d + (self.heads if self.attention == "local" else 0)
        block = attention + (2 * d * m + m + d) + 4 * d  # attention, MLP, two norms
        positions = self.tokens * d + (d if self.summary == "class-token" else 0)
        return self._stem_parameters + positions + self.depth * block + 2 * d + self.num_classes * (d + 1)

    @property
    def flops(self) -> int:
        """Of one image's forward pass, 2 x multiply-accumulate, in closed form."""
        n, d, m = self.tokens, self.width, self.mlp_width
        block = n * (4 * d * d + 2 * d * m) + 2 * n * n * d
        return 2 * (self._stem_multiplications + self.depth * block + d * self.num_classes)

    @property
    def _stem_parameters(self) -> int:
        values, d = self._values_of_patch, self.width
        if self.tokeniser == "convolutions":
            widths = (3, *stem_widths(d, self.patch))
            return sum(9 * a * b + 2 * b for a, b in pairwise(widths)) + d * d + d  # kernels and norms, then 1x1
        return values * d + d + (2 * values if self.tokeniser == "shifted-patches" else 0)

    @property
    def _stem_multiplications(self) -> int:
        d = self.width
        if self.tokeniser == "convolutions":
            widths = (3, *stem_widths(d, self.patch))
            maps = [9 * a * b * (self.image_size >> i) ** 2 for i, (a, b) in enumerate(pairwise(widths), start=1)]
            return sum(maps) + self.patches * d * d
        return self.patches * self._values_of_patch * d

    @property
    def _values_of_patch(self) -> int:
        return (15 if self.tokeniser == "shifted-patches" else 3) * self.patch**2

    def build(self) -> nn.Module:
        """timm's network of this shape, with fresh weights from torch's global generator."""
        network = VisionTransformer(
            img_size=self.image_size,
            patch_size=self.patch,
            num_classes=self.num_classes,
            embed_dim=self.width,
            depth=self.depth,
            num_heads=self.heads,
            mlp_ratio=(self.mlp_width + 0.5) / self.width,  # timm rounds the product down
            class_token=self.summary == "class-token",
            global_pool="token" if self.summary == "class-token" else "avg",
            embed_layer=PatchEmbed if self.tokeniser == "patches" else self._tokens,
            dynamic_img_size=self.tokeniser == "patches",  # positions are resampled where a recipe trains on less
        )
        if self.attention == "local":
            for block in network.blocks:
                block.attn = LocalSelfAttention(cast(Attention, block.attn))
        return network

    def _tokens(self, **_sizes: object) -> nn.Module:
        """What timm calls for its first layer, with sizes that are known here."""
        layer = ShiftedPatches if self.tokeniser == "shifted-patches" else ConvolutionalStem
        return layer(image_size=self.image_size, patch=self.patch, width=self.width)


def vit_of_kind(name: str, *, num_classes: int, image_size: int) -> Callable[..., VitShape]:
    """A kind of ViT without its sizes: give it `width`, `depth`, `head_dim` and `mlp_width`.

    Raises:
        ConfigError: no such kind, or the image cannot be cut that way.
    """
    if name not in get_args(VitName):
        raise unknown_name("kind of ViT", name, get_args(VitName))
    shape = partial(VitShape, image_size=image_size, num_classes=num_classes)
    if name == "vit-patch2":
        return partial(shape, patch=2)
    if image_size % _TOKENS_PER_SIDE:
        raise ConfigError(
            f"a ViT of {_TOKENS_PER_SIDE} x {_TOKENS_PER_SIDE} patches needs an image size that is a multiple of "
            f"{_TOKENS_PER_SIDE}, got {image_size} px; choose another image size, or a transformer of timm by name"
        )
    shape = partial(shape, patch=image_size // _TOKENS_PER_SIDE)
    if name == "vit-pool":
        return partial(shape, summary="mean")
    if name == "vit-spt-lsa":
        return partial(shape, tokeniser="shifted-patches", attention="local")
    if name == "vit-conv":
        return partial(shape, tokeniser="convolutions")
    return shape
