"""Whatever a person has a picture in -> the picture: a path, Pillow's image, an array, a tensor, bytes, an open file.

Arrays and tensors are (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels, uint8, or floating point from 0 to 1;
what resizing has rounded past either end by less than half a grey level is that end.
Knows tensors by their methods, so that it needs no torch to read them.
"""

import inspect
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from PIL import Image as Pillow

from stylealign.data.image import LUMA, orientation_of, pixels_of, read_image, without_multiplied_alpha
from stylealign.errors import UserError, counted
from stylealign.face.orientation import upright_affine
from stylealign.predicting.sources import VIDEO_SUFFIXES, Photo, read_photo

Channels = Literal["rgb", "bgr"]
Image = np.ndarray | Path | str | bytes | IO[bytes] | Pillow.Image | Any
"""`Any`: a tensor, and whatever else `numpy.asarray` makes an array of."""

FORMS = (
    "a path, bytes, an open file, a Pillow image, or an array or tensor of shape (H, W), (H, W, 3), (3, H, W) or with "
    "1 or 4 channels, uint8 or floating point from 0 to 1"
)
CHANNELS = (1, 3, 4)
SLACK = 0.5 / 255


def name_of(image: Image) -> str:
    """A file's name as given; nothing for what has none."""
    if isinstance(image, Path | str):
        return str(image)
    name = getattr(image, "name", None) or getattr(image, "filename", None)
    return name if isinstance(name, str) else ""


def _array_of(image: Any) -> np.ndarray | None:
    """A tensor or an array as an array; None for what is neither."""
    # A torch tensor, on whatever device, of whatever precision; open files have a `detach` too.
    if hasattr(image, "detach") and hasattr(image, "is_floating_point"):
        image = image.detach().cpu()
        return np.asarray(image.float().numpy() if image.is_floating_point() else image.numpy())
    if isinstance(image, np.ndarray):
        return image
    return np.asarray(image) if hasattr(image, "__array__") else None


def described(image: Any) -> str:
    """What was given, in a few words."""
    if isinstance(image, list | tuple):
        first = f" of {type(image[0]).__name__}" if image else ""
        return f"a {type(image).__name__}{first} ({len(image)} long): several pictures are for predict_batch"
    array = _array_of(image)
    if array is None:
        return f"an object of type {type(image).__name__}"
    kind = "array" if isinstance(image, np.ndarray) else "tensor"
    return f"an {kind} of shape {array.shape} and type {array.dtype}".replace("an tensor", "a tensor")


def first_axis_is_channels(shape: Sequence[int], tensor: bool) -> bool:
    """Whether a picture of three axes is (C, H, W): where both ends may be channels, a tensor is, an array is not."""
    first, last = shape[0] in CHANNELS, shape[-1] in CHANNELS
    return first and (tensor or not last)


def is_one(images: Any) -> bool:
    """Whether what should be several pictures is an array or a tensor of one: two axes, or three with channels."""
    array = _array_of(images)
    if array is None or array.ndim not in (2, 3):
        return False
    tensor = not isinstance(images, np.ndarray)
    return array.ndim == 2 or array.shape[-1] in CHANNELS or (tensor and array.shape[0] in CHANNELS)


def rgb_of(image: Any, channels: Channels = "rgb") -> np.ndarray:
    """(H, W, 3) uint8 RGB of an array or a tensor; transparency is laid on white.

    Raises ValueError saying what was given, for anything else.
    """
    array = _array_of(image)
    good = array is not None and array.size and (array.ndim == 2 or (array.ndim == 3))
    if array is None or not good:
        raise ValueError(f"a picture is expected to be {FORMS}; found {described(image)}")
    if array.ndim == 2:
        array = array[..., None]
    elif first_axis_is_channels(array.shape, not isinstance(image, np.ndarray)):
        array = np.moveaxis(array, 0, -1)
    if array.shape[2] not in CHANNELS or not (array.dtype == np.uint8 or np.issubdtype(array.dtype, np.floating)):
        raise ValueError(f"a picture is expected to be {FORMS}; found {described(image)}")
    if array.dtype != np.uint8:
        lowest, highest = float(array.min()), float(array.max())
        if not (lowest >= -SLACK and highest <= 1 + SLACK):  # NaN is not either
            raise ValueError(
                f"a picture is expected to be {FORMS}; found {described(image)} with values from {lowest:g} to "
                f"{highest:g} (undo a normalisation first; 0 to 255 belongs in uint8)"
            )
        array = np.rint(np.clip(array, 0, 1) * 255).astype(np.uint8)
    if array.shape[2] == 4:
        colour, cover = array[..., :3].astype(np.uint16), array[..., 3:].astype(np.uint16)
        array = ((colour * cover + 255 * (255 - cover) + 127) // 255).astype(np.uint8)
    if channels == "bgr":
        array = array[..., ::-1]
    array = np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array
    return np.require(array, requirements=("C", "W"))  # torch warns of an array that may not be written


def picture_of(image: Image, channels: Channels = "rgb") -> Photo:
    """A photo of whatever shows one picture; one that is a photo already, since a file is read once, is itself.

    `channels`: the order in arrays and tensors; files know their own.

    Raises:
        UserError: a file, or the content of one, that is no picture.
        ValueError: an object that is none, or other channels.
    """
    if channels not in ("rgb", "bgr"):
        raise ValueError(f"channels is {channels!r}, expected 'rgb' or 'bgr'")
    if isinstance(image, Photo):
        return image
    if isinstance(image, str | os.PathLike):
        path = Path(image)
        if path.suffix.lower() in VIDEO_SUFFIXES:
            raise UserError(f"{path}: a video; expected a picture here (in Python, predict_video takes videos)")
        return read_photo(path)
    if isinstance(image, Pillow.Image):
        pixels, orientation = pixels_of(image, name_of(image) or "a Pillow image")
    elif isinstance(image, bytes | bytearray | memoryview) or hasattr(image, "read"):
        if inspect.iscoroutinefunction(getattr(image, "read", None)):
            raise ValueError(
                f"{name_of(image) or 'an open file'}: its read has to be awaited; expected its .file (an upload's), or "
                "the bytes of `await upload.read()`"
            )
        text = isinstance(image, io.TextIOBase)
        content = b"" if text else image.read() if hasattr(image, "read") else bytes(image)
        if text or not isinstance(content, bytes):
            raise ValueError(f"{name_of(image) or 'an open file'}: opened as text; expected it opened with mode 'rb'")
        where = Path(name_of(image) or f"picture of {counted(len(content), 'byte')}")
        pixels, orientation = read_image(where, content=content), orientation_of(where, content=content)
    else:
        return Photo(rgb_of(image, channels), np.eye(2, 3))
    height, width = pixels.shape[:2]
    return Photo(pixels, upright_affine(orientation, width, height))


def _off_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 of a picture whose colours were laid on white -> the colours that give it on white with `alpha`
    (H, W, 1), 0 to 1; where that is 0, any will do."""
    share = np.clip(alpha.astype(np.float64), 0, 1)
    colours = (pixels - 255 * (1 - share)) / np.where(share > 0, share, 1)
    return np.where(share > 0, np.rint(colours).clip(0, 255), pixels).astype(np.uint8)


def pixels_like(image: Any, pixels: np.ndarray, channels: Channels = "rgb") -> Any:
    """(H, W, 3) uint8 RGB in the form of `image` (Pillow's, an array, a tensor): its axes, channels, type and class.

    `channels`: the order in arrays and tensors of colours; Pillow's pictures know their own. Grey pictures get the
    brightness, and a fourth channel is the one that `image` has. Pillow's pictures come back as RGB or L, with that
    channel where they have one.
    """
    if isinstance(image, Pillow.Image):
        image = without_multiplied_alpha(image)
        grey = image.mode in ("L", "LA", "1", "I", "F", "I;16")
        band = image.getchannel("A") if "A" in image.getbands() else None
        if band is not None:
            pixels = _off_white(pixels, np.asarray(band, np.float64)[..., None] / 255)
        picture = Pillow.fromarray(pixels).convert("L") if grey else Pillow.fromarray(pixels)
        if band is not None:
            picture.putalpha(band)
        return picture
    given = _array_of(image)
    assert given is not None
    tensor = not isinstance(image, np.ndarray)
    planes = given.ndim == 3 and first_axis_is_channels(given.shape, tensor)
    count = 1 if given.ndim == 2 else given.shape[0] if planes else given.shape[2]
    if channels == "bgr" and count > 1:
        pixels = pixels[..., ::-1]
    alpha = None
    if count == 4:
        alpha = (np.moveaxis(given, 0, -1) if planes else given)[..., 3:]
        pixels = _off_white(pixels, alpha / (255.0 if given.dtype == np.uint8 else 1.0))
    if count == 1:
        pixels = np.rint(pixels @ np.array(LUMA)).clip(0, 255).astype(np.uint8)[..., None]
    made = pixels if given.dtype == np.uint8 else (pixels / np.float32(255)).astype(given.dtype)
    if alpha is not None:
        made = np.concatenate([made, alpha], axis=2)
    made = made[..., 0] if given.ndim == 2 else np.moveaxis(made, -1, 0) if planes else made
    made = np.ascontiguousarray(made)
    if not tensor:
        return made
    import torch

    found = torch.from_numpy(made).to(device=image.device, dtype=image.dtype)
    return found if type(image) is torch.Tensor else found.as_subclass(type(image))
