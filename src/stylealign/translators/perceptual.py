"""Feature networks for the reconstruction loss: VGG-19 from a user's weights file, or layers of any frozen network.

Nothing is downloaded. `load_vgg19(path)` is the one function here that opens a file.
"""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stylealign.errors import UserError

_CONVS = ("1_1", "1_2", "2_1", "2_2", "3_1", "3_2", "3_3", "3_4", "4_1", "4_2", "4_3", "4_4", "5_1", "5_2")
_TAPS = ("1_2", "2_2", "3_2", "4_2", "5_2")  # post-ReLU outputs of the released loss (docs/paper_map.md 1.5)
_WIDTHS = {"1": 64, "2": 128, "3": 256, "4": 512, "5": 512}
_TORCHVISION_INDEX = dict(zip(_CONVS, (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30), strict=True))

_CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)  # grey levels
_TORCHVISION_MEAN_RGB, _TORCHVISION_STD_RGB = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_GREY_LEVELS_PER_UNIT = 255 * sum(_TORCHVISION_STD_RGB) / 3  # one unit of torchvision's input, 57.6 grey levels

Convention = Literal["caffe", "torchvision"]


class VGG19Features(nn.Module):
    """The six levels of the released perceptual loss: the picture itself, then conv1_2, 2_2, 3_2, 4_2, 5_2 after ReLU.

    Input (B, 3, S, S) RGB in [-1, 1]. Level 0 is always 0..255 BGR minus caffe's means, so that the pixel and
    Gram-of-input terms weigh what they weighed in the release. "caffe" weights (Keras) see exactly that.
    "torchvision" weights see RGB 0..1 normalised by mean and deviation, which shrinks their features; they are
    multiplied by 57.6, the grey levels in one unit of that input, as a ReLU network would multiply them. That
    recalibration is of first order: the two networks were trained apart, so weights tuned for one need a look for the
    other.
    """

    num_levels = 1 + len(_TAPS)
    caffe_mean: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, convention: Convention) -> None:
        super().__init__()
        self.convention = convention
        self.convs = nn.ModuleDict()
        in_channels = 3
        for name in _CONVS:
            self.convs[name] = nn.Conv2d(in_channels, _WIDTHS[name[0]], 3, padding=1)
            in_channels = _WIDTHS[name[0]]
        self.register_buffer("caffe_mean", torch.tensor(_CAFFE_MEAN_BGR).view(3, 1, 1), persistent=False)
        self.register_buffer("mean", torch.tensor(_TORCHVISION_MEAN_RGB).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_TORCHVISION_STD_RGB).view(3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, image: Tensor) -> list[Tensor]:
        """-> [(B, 3, S, S), (B, 64, S, S), (B, 128, S/2, S/2), ..., (B, 512, S/16, S/16)]."""
        rgb = (image + 1) / 2
        caffe = 255 * rgb.flip(1) - self.caffe_mean
        levels = [caffe]
        unit = 1.0 if self.convention == "caffe" else _GREY_LEVELS_PER_UNIT
        x = caffe if self.convention == "caffe" else (rgb - self.mean) / self.std
        for name in _CONVS:
            if name.endswith("_1") and name != "1_1":
                x = F.max_pool2d(x, 2)
            x = F.relu(self.convs[name](x))
            if name in _TAPS:
                levels.append(unit * x)
        return levels


def load_vgg19(path: Path, convention: Convention | None = None) -> VGG19Features:
    """Read VGG-19's weights: torchvision's (.pth, .pt or .safetensors) or Keras' (.h5), up to conv5_2.

    `convention` None takes "caffe" for .h5 and "torchvision" otherwise; say "caffe" for a caffe-trained network saved
    under torchvision's names. Raises UserError for a missing or unreadable file, naming the first missing key.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such VGG-19 weights file.")
    suffix = path.suffix.lower()
    if suffix in (".h5", ".hdf5"):
        tensors = _read_keras(path)
    elif suffix in (".pth", ".pt", ".safetensors"):
        tensors = _read_torchvision(path)
    else:
        raise UserError(
            f"{path}: VGG-19 weights must be torchvision's (.pth, .pt, .safetensors) or Keras' (.h5), not '{suffix}'."
        )
    network = VGG19Features(convention or ("caffe" if suffix in (".h5", ".hdf5") else "torchvision"))
    for name, conv in network.convs.items():
        for part, (key, tensor) in zip(("weight", "bias"), tensors[name], strict=True):
            parameter = getattr(conv, part)
            if tensor.shape != parameter.shape:
                raise UserError(
                    f"{path}: '{key}' has shape {tuple(tensor.shape)}, expected {tuple(parameter.shape)} "
                    f"(conv{name} of VGG-19)."
                )
            parameter.data.copy_(tensor)
    return network


_Named = dict[str, tuple[tuple[str, Tensor], tuple[str, Tensor]]]
"""Convolution name -> (key in the file, tensor) of its weight (O, I, 3, 3) and of its bias (O,)."""


def _read_torchvision(path: Path) -> _Named:
    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the two readers raise a dozen kinds of error for a damaged file
        said = type(error).__name__  # its text is of many lines, and advises to unpickle whatever it is
        raise UserError(f"{path}: not readable as a file of weights that holds no code ({said})") from error
    if not isinstance(state, dict):
        raise UserError(f"{path}: expected a dict of tensors (a state dict), found {type(state).__name__}.")
    found: _Named = {}
    for name, index in _TORCHVISION_INDEX.items():
        keys = (f"features.{index}.weight", f"features.{index}.bias")
        for key in keys:
            if not isinstance(state.get(key), Tensor):
                raise UserError(f"{path}: '{key}' (conv{name}) is missing; expected torchvision's VGG-19 state dict.")
        found[name] = ((keys[0], state[keys[0]].float()), (keys[1], state[keys[1]].float()))
    return found


def _read_keras(path: Path) -> _Named:
    import h5py

    arrays: dict[str, np.ndarray] = {}

    def collect(key: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[key] = np.asarray(item)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(collect)
    except OSError as error:
        raise UserError(f"{path}: not readable as an HDF5 file ({error}).") from error
    found: _Named = {}
    for name in _CONVS:
        layer = f"block{name[0]}_conv{name[-1]}"  # its group's name in every Keras version
        ours = {key: array for key, array in arrays.items() if layer in key.split("/")}
        pair = []
        for part, ndim in (("kernel", 4), ("bias", 1)):
            keys = [key for key, array in ours.items() if array.ndim == ndim]
            if len(keys) != 1:
                raise UserError(f"{path}: '{layer}' {part} is missing; expected Keras' VGG-19 weights.")
            tensor = torch.from_numpy(ours[keys[0]]).float()
            pair.append((keys[0], tensor.permute(3, 2, 0, 1) if ndim == 4 else tensor))  # HWIO -> OIHW
        found[name] = (pair[0], pair[1])
    return found


class FrozenFeatures:
    """Outputs of a network's named layers: `FrozenFeatures(detector, ("layer1", "layer2"))(image)`.

    Keeps its own frozen copy in evaluation mode. Gradients flow to the image, not to the copy. Pictures of another
    side than `size`, which the network was made for, are resized to it first; None: it takes any.
    """

    def __init__(self, network: nn.Module, layers: Sequence[str], size: int | None = None) -> None:
        self.num_levels, self.size = len(layers), size
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self._outputs: dict[str, Tensor] = {}
        modules = dict(self.network.named_modules())
        for name in layers:
            assert name in modules, f"no layer {name!r} in {type(network).__name__}"
            modules[name].register_forward_hook(self._keep(name))
        self._layers = tuple(layers)

    def to(self, device: torch.device) -> "FrozenFeatures":
        """Move the copy to `device`; returns itself."""
        self.network.to(device)
        return self

    def __call__(self, image: Tensor) -> list[Tensor]:
        self._outputs.clear()
        if self.size is not None and image.shape[-1] != self.size:
            image = F.interpolate(image, size=self.size, mode="bilinear", antialias=True)
        self.network(image)
        return [self._outputs.pop(name) for name in self._layers]

    def _keep(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self._outputs[name] = output

        return hook
