"""The only file that knows image files, uint8, and how much of a stranger's picture we are willing to decode.

Arrays are (H, W, 3) uint8 RGB. Files are read and written by Pillow, which raises on a truncated picture where other
decoders fill the rest with grey; warps are OpenCV's.
"""

import io
import math
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from stylealign.errors import UserError
from stylealign.face import geometry

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
MAX_PIXELS = 100_000_000
LUMA = (0.299, 0.587, 0.114)
"""Parts of red, green and blue in a picture's brightness (ITU-R BT.601)."""


def _open(path: Path, max_pixels: int) -> Image.Image:
    Image.MAX_IMAGE_PIXELS = None  # the limit below is ours and says which file it was
    try:
        image = Image.open(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such image") from None
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{path}: not an image that can be read ({error})") from None
    width, height = image.size
    if width * height > max_pixels:
        image.close()
        raise UserError(f"{path}: {width} x {height} pixels, expected at most {max_pixels:,} in all")
    return image


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) from the file's header, without decoding it."""
    with _open(path, 2**62) as image:
        return image.size


def orientation_of(path: Path) -> int:
    """The EXIF orientation, 1 to 8, from the file's header; 1 (as stored) where it says none or nonsense."""
    with _open(path, 2**62) as image:
        try:
            value = image.getexif().get(0x0112, 1)
        except Exception:  # a damaged EXIF block is no reason not to look at the picture
            return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a picture as (H, W, 3) uint8 RGB, as stored.

    An EXIF orientation is NOT applied, since annotations of published sets belong to the stored pixels. 16-bit is
    scaled to 8, grey and CMYK converted, transparency laid on white.

    Raises UserError naming the file when it is missing, not an image, truncated, or larger than `max_pixels`.
    """
    with _open(path, max_pixels) as image:
        try:
            image.load()
        except (OSError, SyntaxError, ValueError) as error:
            raise UserError(f"{path}: image cut short or damaged ({error})") from None
        if image.mode.startswith("I;16") or image.mode == "I":
            return np.repeat(
                (np.asarray(image, dtype=np.float64) / 257).clip(0, 255).round().astype(np.uint8)[..., None], 3, axis=2
            )
        if "A" in image.getbands() or "transparency" in image.info:
            rgba = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", rgba.size, (255, 255, 255, 255)), rgba)
        return np.asarray(image.convert("RGB")).copy()


def encode_image(rgb: np.ndarray, suffix: str, quality: int = 95) -> bytes:
    """(H, W, 3) or (H, W) uint8 as the bytes of a picture file of this suffix; JPEG keeps full colour resolution."""
    if rgb.dtype != np.uint8:
        raise ValueError(f"encode_image takes uint8, not {rgb.dtype}")
    suffix = suffix.lower()
    options = {"quality": quality, "subsampling": 0} if suffix in (".jpg", ".jpeg") else {}
    written = io.BytesIO()
    Image.fromarray(rgb).save(written, format=Image.registered_extensions()[suffix], **options)  # type: ignore[arg-type]
    return written.getvalue()


def write_image(path: Path, rgb: np.ndarray, quality: int = 95) -> None:
    """Write (H, W, 3) or (H, W) uint8 as the format the suffix names."""
    Path(path).write_bytes(encode_image(rgb, Path(path).suffix, quality))


def warp(image: np.ndarray, to_from: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Resample `image` through the affine `to_from` into (size, size) or (width, height); edges are replicated.

    When the affine shrinks by more than 1.5 the image is first area-averaged by a whole factor, else bilinear
    sampling would skip pixels and a small face would come out in dots.
    """
    factor = math.floor(1 / max(geometry.scale_of(to_from), 1e-6) / 1.5)
    if factor >= 2:
        height, width = image.shape[0] // factor * factor, image.shape[1] // factor * factor
        if height and width:
            image = cv2.resize(
                image[:height, :width], (width // factor, height // factor), interpolation=cv2.INTER_AREA
            )
            to_from = geometry.compose(to_from, geometry.resize_affine(factor))
    shape = (size, size) if isinstance(size, int) else size
    return cv2.warpAffine(image, to_from, shape, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
