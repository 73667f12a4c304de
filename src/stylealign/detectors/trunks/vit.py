"""A small vision transformer (Dosovitskiy et al., ICLR 2021) of DeiT-tiny's shape and names (Touvron et al., ICML 2021)
as a trunk. Knows no files and no heads."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stylealign.errors import UserError

PATCH, DEPTH, HEADS, EACH = 16, 12, 3, 64


class Attention(nn.Module):
    """Scaled dot products of all places with all (Vaswani et al. 2017), several times side by side."""

    def __init__(self, width: int):
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4).unbind(0)  # (B, heads, N, each)
        weights = ((q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)).softmax(dim=3)
        return self.proj((weights @ v).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Each place on its own: four times as wide, GELU, back."""

    def __init__(self, width: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention, then the layers of each place, both behind a normalisation and added to what came in."""

    def __init__(self, width: int):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width, eps=1e-6), Attention(width)
        self.norm2, self.mlp = nn.LayerNorm(width, eps=1e-6), MLP(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """Squares of 16 px, each a vector."""

    def __init__(self, width: int):
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, PATCH)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image).flatten(2).transpose(1, 2)


class ViTTiny(nn.Module):
    """(B, 3, S, S) -> features at strides `finest` to `cut`; S a multiple of 16.

    All come from the last map, enlarged by transposed convolutions and pooled: the simple pyramid of Li et al. (ECCV
    2022).
    """

    def __init__(self, size: int, width: float, cut: int, finest: int = 4):
        super().__init__()
        if size % PATCH:
            raise UserError(
                f"a crop of {size} px: trunk vit_tiny has squares of {PATCH} px, expected a multiple of that"
            )
        self.side, channels = size // PATCH, HEADS * max(4, round(EACH * width))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, channels))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.side**2, channels))
        self.patch_embed = PatchEmbed(channels)
        self.blocks = nn.ModuleList(Block(channels) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        half = max(1, channels // 2)
        if finest <= 4:
            self.to_4 = nn.Sequential(
                nn.ConvTranspose2d(channels, half, 2, 2, bias=False), nn.BatchNorm2d(half), nn.GELU(),
                nn.ConvTranspose2d(half, half, 2, 2),
            )  # fmt: skip
        if finest <= 8:
            self.to_8 = nn.ConvTranspose2d(channels, half, 2, 2)
        self.cut, self.finest = cut, finest
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        for parameter in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.patch_embed(image)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)[:, 1:].transpose(1, 2).unflatten(2, (self.side, self.side))
        found = [self.to_4(x)] if self.finest <= 4 else []
        found += [self.to_8(x)] if self.finest <= 8 else []
        found += [x] if self.finest <= 16 else []
        return [*found, F.max_pool2d(x, 2, ceil_mode=True)] if self.cut == 32 else found


def resized_places(table: Tensor, count: int) -> Tensor:
    """(1, 1 + n^2, C) vectors of the token and of a square of places, for a square of `count` - 1 places: bicubic."""
    old, new = round((table.shape[1] - 1) ** 0.5), round((count - 1) ** 0.5)
    if old == new or old**2 + 1 != table.shape[1]:
        return table
    grid = table[:, 1:].transpose(1, 2).unflatten(2, (old, old))
    grid = F.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    return torch.cat([table[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)
