"""Messages between facial boundaries along a tree (LAB, CVPR 2018, section 3.2, after structured
feature learning, Chu et al. 2016).

Neighbouring boundaries pass on where a hidden one must be. Knows no images, no losses and no training.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stylealign.face.schema import LandmarkSchema

# Facial parts whose boundaries move together.
_NEIGHBOURS = {
    frozenset(pair)
    for pair in (("nose", "brows"), ("nose", "eyes"), ("brows", "eyes"), ("nose", "mouth"), ("mouth", "contour"))
}


def _apart(schema: LandmarkSchema) -> list[list[int]]:
    """(K, K) how far two boundaries are related: 0 share a landmark, 1 same part, 2 neighbouring parts, 3 either of
    these across the face (a left and a right one), 4 nothing known."""
    curves = list(schema.boundaries.values())
    mirrored = [int(i) for i in schema.boundary_flip_permutation] if schema.flip_pairs else list(range(len(curves)))
    side = [
        (m > i) - (m < i) for i, m in enumerate(mirrored)
    ]  # of two mirror twins, the one listed first; 0: in the middle
    part = [
        next((name for name, points in schema.parts.items() if set(curve) <= set(points)), None) for curve in curves
    ]

    def apart(i: int, j: int) -> int:
        if set(curves[i]) & set(curves[j]):
            return 0
        if part[i] is None or part[j] is None:
            return 4
        if part[i] == part[j]:
            found = 1
        elif frozenset((part[i], part[j])) in _NEIGHBOURS:
            found = 2
        else:
            return 4
        return 3 if side[i] * side[j] < 0 else found

    return [[apart(i, j) for j in range(len(curves))] for i in range(len(curves))]


def boundary_tree(schema: LandmarkSchema) -> tuple[int, ...]:
    """The parent of each boundary, -1 for the root: boundaries that share landmarks are joined first, then those of one
    facial part, then those of neighbouring parts (a minimum spanning tree; ties go to the schema's order).

    The root is the boundary from which the farthest is nearest (for the built-in mark-ups with a nose
    bridge: the nose bridge). The published tree is not stated in anything readable; chosen so that any
    schema has one, for its own mark-up too.
    """
    num, apart = len(schema.boundaries), _apart(schema)
    joined, edges = list(range(num)), set()  # Kruskal: joined[i] names the piece boundary i is in
    for _, i, j in sorted((apart[a][b], a, b) for a in range(num) for b in range(a + 1, num)):
        if joined[i] != joined[j]:
            edges |= {(i, j), (j, i)}
            old = joined[j]
            joined = [joined[i] if piece == old else piece for piece in joined]

    def parents(root: int) -> tuple[list[int], int]:
        found, reached, depth = {root: -1}, [root], 0
        while len(found) < num:
            reached, depth = (
                [j for j in range(num) if j not in found and any((i, j) in edges for i in reached)],
                depth + 1,
            )
            found |= {j: next(i for i in found if (i, j) in edges) for j in reached}
        return [found[i] for i in range(num)], depth

    return tuple(min((parents(root) for root in range(num)), key=lambda tree: tree[1])[0])


def levels(parents: Sequence[int]) -> list[list[int]]:
    """The boundaries of a tree in levels: the root, its children, theirs, ...

    >>> levels((1, -1, 1, 2))
    [[1], [0, 2], [3]]
    """
    found = [[i for i, parent in enumerate(parents) if parent < 0]]
    while below := [i for i, parent in enumerate(parents) if parent in found[-1]]:
        found.append(below)
    return found


class BlockConv(nn.Module):
    """A convolution between blocks of channels: (B, num_in * C, h, w) -> (B, num_out * D, h, w).

    Block `target` receives block `source` through weights of its own, for each (source, target) given and no other;
    what several send to one is added. Computed as one dense convolution whose other weights are zero: narrow grouped
    ones are slower, and block order costs nothing.
    """

    sources: Tensor
    targets: Tensor

    def __init__(
        self, pairs: Sequence[tuple[int, int]], num_in: int, num_out: int, channels_in: int, channels_out: int,
        kernel: int
    ):  # fmt: skip
        super().__init__()
        self.shape = (num_out, num_in, channels_out, channels_in, kernel, kernel)
        self.weight = nn.Parameter(torch.empty(len(pairs) * channels_out, channels_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(num_out * channels_out))
        self.register_buffer("sources", torch.tensor([source for source, _ in pairs]), persistent=False)
        self.register_buffer("targets", torch.tensor([target for _, target in pairs]), persistent=False)
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")

    def dense_weight(self) -> Tensor:
        """(num_out * D, num_in * C, kernel, kernel): the weights of the one convolution that does it all."""
        num_out, num_in, channels_out, channels_in, kernel, _ = self.shape
        blocks = self.weight.view(-1, channels_out, channels_in, kernel, kernel)
        dense = self.weight.new_zeros(self.shape).index_put((self.targets, self.sources), blocks)
        return dense.transpose(1, 2).reshape(num_out * channels_out, num_in * channels_in, kernel, kernel)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.dense_weight(), self.bias, padding=self.shape[-1] // 2)


class MessagePassing(nn.Module):
    """Features of the boundaries, root first, level by level (B, K * C, h, w) -> the same, after
    messages up the tree and down again.

    A message is a convolution of its own for each pair of neighbours and each direction, added to what the receiver
    has, then ReLU (Chu et al. 2016, equation 5). Upwards a boundary sends when it has got the messages of all below it;
    downwards it starts from what it has then, so one pass carries from every boundary to every other. The size of the
    convolution is not stated in anything readable.
    """

    def __init__(self, parents: Sequence[int], channels: int, kernel: int):
        super().__init__()
        tree = levels(parents)
        self.channels = [len(level) * channels for level in tree]
        self.up, self.down = nn.ModuleList(), nn.ModuleList()
        for above, below in pairwise(tree):
            pairs = [(i, above.index(parents[boundary])) for i, boundary in enumerate(below)]  # (child, parent)
            swapped = [(parent, child) for child, parent in pairs]
            self.up.append(BlockConv(pairs, len(below), len(above), channels, channels, kernel))
            self.down.append(BlockConv(swapped, len(above), len(below), channels, channels, kernel))

    def forward(self, features: Tensor) -> Tensor:
        knows = list(F.relu(features).split(self.channels, dim=1))
        for d in reversed(range(len(self.up))):
            knows[d] = F.relu(knows[d] + self.up[d](knows[d + 1]))
        for d in range(len(self.down)):
            knows[d + 1] = F.relu(knows[d + 1] + self.down[d](knows[d]))
        return torch.cat(knows, dim=1)
