"""ImageNet weights into a trunk: every name and shape is checked, and what pictures they expect is folded in.

Knows tensors; which file, and whether it is the right one, is the job's (jobs/train_detector/pretrained.py).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from stylealign.detectors.resnet import fold_normalisation
from stylealign.detectors.trunks.vit import resized_places
from stylealign.errors import UserError


def load_trunk_weights(
    trunk: nn.Module, state: Mapping[str, Tensor], where: str, *, title: str, known: set[str], unused: tuple[str, ...],
    stem: str, norm: str | None, mean: tuple[float, ...], std: tuple[float, ...],
    width_flag: str,
) -> None:  # fmt: skip
    """Load a file of ImageNet weights into a trunk, strictly.

    Args:
        trunk: perhaps cut.
        state: the file's names and tensors.
        where: the file's name for messages.
        title: whose names are expected, such as "torchvision's mobilenet_v2".
        known: names of the trunk uncut: what it was cut from may be in the file.
        unused: beginnings of names that the file has and no trunk uses (the classifier).
        stem: name of the layer that sees the picture.
        norm: name of the normalisation behind it; None: the layer has a bias.
        mean, std: what the weights expect of the picture's channels, in [0, 1] units.
        width_flag: how a user says the trunk's width.

    Raises UserError naming the first name that does not fit.
    """
    own = {k: v for k, v in trunk.state_dict().items() if k in known}
    loaded: dict[str, Tensor] = {}
    for key, value in own.items():
        if key not in state:
            if key.endswith("num_batches_tracked"):
                continue  # files older than torch 0.4.1 lack these counters
            raise UserError(f"{where}: weight '{key}' is missing; expected those of {title}")
        found = resized_places(state[key].float(), value.shape[1]) if key == "pos_embed" else state[key]
        if found.shape != value.shape:
            hint = f"; ImageNet weights need width 1, as in {width_flag} 1" if key.startswith(f"{stem}.") else ""
            raise UserError(
                f"{where}: weight '{key}' has shape {tuple(found.shape)}, expected {tuple(value.shape)} of {title}"
                f"{hint}"
            )
        loaded[key] = found.float() if found.is_floating_point() else found
    for key in state:
        if key not in known and not key.startswith(unused):
            raise UserError(f"{where}: weight '{key}' is unknown; expected those of {title}")
    kernel, offset = fold_normalisation(loaded[f"{stem}.weight"], torch.tensor(mean), torch.tensor(std))
    loaded[f"{stem}.weight"] = kernel
    if norm is None:
        loaded[f"{stem}.bias"] = loaded[f"{stem}.bias"] + offset
    else:
        loaded[f"{norm}.running_mean"] = loaded[f"{norm}.running_mean"] - offset
    trunk.load_state_dict(loaded, strict=False)
