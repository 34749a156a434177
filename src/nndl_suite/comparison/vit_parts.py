"""Parts of Vision Transformers for small sets of small images, in the form in which timm's network takes them."""

from itertools import pairwise
from typing import cast

import torch
from jaxtyping import Float
from timm.layers.attention import Attention
from torch import Tensor, nn
from torch.nn import functional as F


class ShiftedPatches(nn.Module):
    """Shifted patch tokenisation (arXiv 2112.13492, section 3.1).

    The image and four copies, shifted diagonally by half a patch, are cut into patches together, normalised and
    projected. What is shifted in is zero, as in the authors' code: the mean colour of normalised images.
    """

    def __init__(self, *, image_size: int, patch: int, width: int) -> None:
        super().__init__()
        self.patch = patch
        self.num_patches = (image_size // patch) ** 2
        self.norm = nn.LayerNorm(15 * patch**2)
        self.proj = nn.Linear(15 * patch**2, width)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
        """Tokens, row by row."""
        values = F.unfold(shifted(images, self.patch // 2), self.patch, stride=self.patch).mT  # [b, n, 15 patch²]
        return self.proj(self.norm(values))


def shifted(images: Float[Tensor, "b 3 h w"], by: int) -> Float[Tensor, "b 15 h w"]:
    """The images, then copies moved by so many pixels down and right, down and left, up and right, up and left."""
    h, w = images.shape[2:]
    padded = F.pad(images, (by, by, by, by))
    corners = [padded[:, :, y : y + h, x : x + w] for y in (0, 2 * by) for x in (0, 2 * by)]
    return torch.cat([images, *corners], dim=1)


class LocalSelfAttention(nn.Module):
    """Locality self-attention (arXiv 2112.13492, section 3.2): learned temperatures, and no token sees itself.

    As in the authors' code each head of each block has a temperature, which begins at the usual √(head dimension).
    """

    def __init__(self, plain: Attention) -> None:
        """Takes the projections of timm's attention over."""
        super().__init__()
        self.heads, self.head_dim = plain.num_heads, plain.head_dim
        self.qkv, self.proj, self.proj_drop = plain.qkv, plain.proj, plain.proj_drop
        self.inverse_temperature = nn.Parameter(torch.full((self.heads,), self.head_dim**-0.5))

    def forward(
        self, x: Float[Tensor, "b n d"], *, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Float[Tensor, "b n d"]:
        """Tokens, mixed with the others; the two options of timm's attention must be off."""
        assert attn_mask is None
        assert not is_causal
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q = q * self.inverse_temperature.to(q.dtype)[:, None, None]
        others = ~torch.eye(n, dtype=torch.bool, device=x.device)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=others, scale=1.0)  # [b, heads, n, head dim]
        return self.proj_drop(self.proj(mixed.transpose(1, 2).flatten(2)))


def stem_widths(width: int, patch: int) -> tuple[int, ...]:
    """Channels after each convolution that halves the image: they double, the last has `width` (arXiv 2106.14881)."""
    halvings = patch.bit_length() - 1
    return tuple(max(1, width >> i) for i in reversed(range(halvings)))


class ConvolutionalStem(nn.Module):
    """Convolutions in place of patches (arXiv 2106.14881, section 5).

    3x3 kernels of stride 2 with batch norm and ReLU until a pixel of the map stands for a patch, then one 1x1 kernel.
    """

    def __init__(self, *, image_size: int, patch: int, width: int) -> None:
        super().__init__()
        self.num_patches = (image_size // patch) ** 2
        self.halvings = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
                for a, b in pairwise((3, *stem_widths(width, patch)))
            )
        )
        self.proj = nn.Conv2d(width, width, 1)
        for halving in self.halvings:
            convolution = cast(nn.Conv2d, cast(nn.Sequential, halving)[0])
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.proj.weight, std=width**-0.5)
        nn.init.zeros_(cast(Tensor, self.proj.bias))

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
        """Tokens, row by row."""
        return self.proj(self.halvings(images)).flatten(2).mT
