"""The only file that knows image files, uint8, and how much of a stranger's picture we are willing to decode.

Arrays are (H, W, 3) uint8 RGB. Files are read and written by Pillow, which raises on a truncated picture where other
decoders fill the rest with grey; warps are OpenCV's. Pillow opens by content, so the kinds it may open stand here: no
other decoder, and no program, is ever started for a stranger's file.
"""

import functools
import io
import math
import os
import stat
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from stylealign.errors import UserError, counted
from stylealign.face import geometry
from stylealign.progress import say

KINDS = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".jfif": "JPEG", ".png": "PNG", ".bmp": "BMP", ".webp": "WEBP", ".tif": "TIFF",
    ".tiff": "TIFF", ".gif": "GIF", ".avif": "AVIF",
}  # fmt: skip
"""Suffix of a picture (small letters) -> its kind, as Pillow calls it. Of a GIF the first frame is read."""
IMAGE_SUFFIXES = tuple(KINDS)
MAX_PIXELS = 100_000_000
MAX_BYTES = 1 << 30
"""Of a picture's file: what 100 million pixels of 16-bit colour need, and some."""
STRIP_PIXELS = 1 << 20  # of a picture that are converted at a time
OPENCV_SIDE = 32_767  # px; OpenCV moves pictures whose sides are shorter
LUMA = (0.299, 0.587, 0.114)
"""Parts of red, green and blue in a picture's brightness (ITU-R BT.601)."""
_TOPS = (255, 4095, 65535)
"""What white may be in whole numbers of more than 8 bits: the first that no pixel exceeds is taken."""


@functools.cache
def _contents() -> tuple[str, ...]:
    """What Pillow may find in a file, whatever the file is called; PPM is read only where it is named."""
    Image.init()
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # on damage, which comes as a sentence
    return tuple(kind for kind in (*dict.fromkeys(KINDS.values()), "MPO", "PPM") if kind in Image.OPEN)


def _reason(error: Exception) -> str:
    return "more memory than there is" if isinstance(error, MemoryError) else str(error) or "its decoder fails"


def _identified(path: Path, content: bytes | None) -> Image.Image:
    """What `Image.open` answers with the kinds that we read, without its own limit of pixels, which it knows only for
    the whole process: that of whoever runs us stays, and the limits here say which file it was."""
    file = open(path, "rb") if content is None else io.BytesIO(content)  # noqa: SIM115
    name = str(path) if content is None else ""
    try:
        prefix = file.read(16)
        for kind in _contents():
            factory, accept = Image.OPEN[kind]
            fits = not accept or accept(prefix)
            if not fits or isinstance(fits, str):  # a text says which decoder is not there
                continue
            file.seek(0)
            try:
                image = factory(file, name)
            except (SyntaxError, IndexError, TypeError, struct.error):  # not of this kind after all
                continue
            image._exclusive_fp = True  # type: ignore[attr-defined]  # closed with the image
            return image
    except BaseException:
        file.close()
        raise
    file.close()
    raise UnidentifiedImageError(f"cannot identify image file {name!r}" if name else "cannot identify image file")


def _open(path: Path, max_pixels: int, content: bytes | None = None) -> Image.Image:
    """The picture with its header read. Raises UserError for anything else, and for more than `max_pixels`.

    `content`: the file's bytes, where they are at hand; then `path` only names them.
    """
    try:
        found = None if content is not None else os.stat(path)
        if found is not None and not stat.S_ISREG(found.st_mode):
            raise UserError(f"{path}: not an image that can be read (it is no file)")
        size = len(content) if content is not None else found.st_size if found is not None else 0
        if size > MAX_BYTES:
            raise UserError(f"{path}: {counted(size, 'byte')}, expected at most {MAX_BYTES:,}")
        image = _identified(path, content)
    except FileNotFoundError:
        raise UserError(f"{path}: no such image") from None
    except UserError:
        raise
    except Exception as error:  # a plug-in raises whatever it runs into
        expected = ", ".join(dict.fromkeys(KINDS.values()))
        raise UserError(f"{path}: not an image that can be read ({_reason(error)}), expected {expected}") from None
    width, height = image.size
    if width * height > max_pixels:
        image.close()
        raise UserError(f"{path}: {width} x {height} pixels, expected at most {max_pixels:,} in all")
    return image


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) of what `read_image` reads, from the file's header; a TIFF that says it is turned is decoded."""
    with _open(path, 2**62) as image:
        if image.format == "TIFF":
            _orientation(image)
        return image.size


def orientation_of(path: Path, max_pixels: int = MAX_PIXELS, content: bytes | None = None) -> int:
    """The EXIF orientation, 1 to 8, from the file's header; 1 (as stored) where it says none or nonsense.

    PNG and TIFF are decoded for it, and have at most `max_pixels` (else UserError). `content`: as of `read_image`.
    """
    with _open(path, max_pixels, content) as image:
        return _orientation(image)


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(0x0112, 1)
        if image.format == "TIFF" and value != 1:
            image.load()  # by which Pillow turns a TIFF, and forgets how it lay
            value = image.getexif().get(0x0112, 1)
    except Exception:  # a damaged EXIF block is no reason not to look at the picture
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def pixels_of(image: Image.Image, name: str) -> tuple[np.ndarray, int]:
    """An image that is open in Pillow as (H, W, 3) uint8 RGB, as `read_image` converts, and its EXIF orientation.

    It stays open. Raises UserError naming it where it cannot be decoded or has more than MAX_PIXELS.
    """
    width, height = image.size
    if width * height > MAX_PIXELS or not width * height:
        raise UserError(f"{name}: {width} x {height} pixels, expected at least one and at most {MAX_PIXELS:,} in all")
    return _rgb_of(image, Path(name), b""), _orientation(image)


def read_image(path: Path, max_pixels: int = MAX_PIXELS, content: bytes | None = None) -> np.ndarray:
    """Read a picture as (H, W, 3) uint8 RGB, as stored.

    An EXIF orientation is NOT applied, since annotations of published sets belong to the stored pixels (of a TIFF it
    is, by Pillow, and `orientation_of` says 1). Grey and CMYK are converted, transparency laid on white. More than 8
    bits are scaled to 8: whole numbers as 8, 12 or 16 bits, the least that hold the picture's largest value,
    floating-point ones as 0 to 1 or 0 to 255 by the same rule; whatever is not simply 16 bits is said. `content`: the
    file's bytes, where they are at hand.

    Raises UserError naming the file when it is missing, not an image, truncated, or larger than `max_pixels`.
    """
    with _open(path, max_pixels, content) as image:
        return _rgb_of(image, path, content)


def _rgb_of(image: Image.Image, path: Path, content: bytes | None) -> np.ndarray:
    """See `read_image`. `content`: the file's bytes; None: those of `path`; empty: there are none."""
    try:
        deep = any(";16" in str(part) for part in getattr(image, "tile", ()))
        inverted = image.format == "TIFF" and image.tag_v2.get(262) == 0  # type: ignore[attr-defined]
        image.load()
        if image.mode.startswith("I"):  # whole numbers of 16 or 32 bits
            grey = _of_whole(path, np.asarray(image), inverted)
            return np.repeat(grey[..., None], 3, axis=2)
        if image.mode == "F":
            return np.repeat(_of_floats(path, np.asarray(image), inverted)[..., None], 3, axis=2)
        rgb = _on_white(image)
        if deep and rgb.max() < 16:  # Pillow has kept the upper 8 of 16 bits of a colour, and they are hardly used
            rgb = _of_dark_colour(path, rgb, content)
        return rgb
    except UserError:
        raise
    except Exception as error:  # a decoder raises whatever it runs into
        raise UserError(f"{path}: image cut short or damaged ({_reason(error)})") from None


def without_multiplied_alpha(image: Image.Image) -> Image.Image:
    """The image; as RGBA or LA where its colours are multiplied by its alpha, of which Pillow knows little else."""
    return image.convert({"RGBa": "RGBA", "La": "LA"}[image.mode]) if image.mode in ("RGBa", "La") else image


def _on_white(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a decoded image, on white where it shows through; by strips, since Pillow converts into
    copies of four bytes a pixel."""
    image = without_multiplied_alpha(image)
    width, height = image.size
    shows_through = "A" in image.getbands() or "transparency" in image.info
    rgb = np.empty((height, width, 3), np.uint8)
    rows = max(1, STRIP_PIXELS // max(1, width))
    for top in range(0, height, rows):
        bottom = min(top + rows, height)  # `crop` asks the process's limit of pixels
        strip = image.resize((width, bottom - top), Image.Resampling.NEAREST, (0, top, width, bottom))
        if shows_through:
            strip = strip.convert("RGBA")
            strip = Image.alpha_composite(Image.new("RGBA", strip.size, (255, 255, 255, 255)), strip)
        rgb[top : top + rows] = np.asarray(strip if strip.mode == "RGB" else strip.convert("RGB"))
    return rgb


_said: set[tuple[str, int]] = set()


def _say_how(path: Path, kind: str, highest: float, white: int) -> None:
    """Say, of the first picture that is so, how its values are taken."""
    if (kind, white) not in _said:
        _said.add((kind, white))
        each = "said once; each picture is taken by its own largest value"
        say(f"{path}: {kind} up to {highest:g}, taken as 0 to {white} ({each})")


def _of_whole(path: Path, values: np.ndarray, inverted: bool = False) -> np.ndarray:
    """Whole numbers of any shape -> uint8: 0 to the least of _TOPS that holds them all. `inverted`: 0 is white."""
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0 or highest > _TOPS[-1]:
        raise UserError(f"{path}: values from {lowest} to {highest}, expected 0 to {_TOPS[-1]} (16 bits)")
    white = next(top for top in _TOPS if highest <= top)
    if white < _TOPS[-1] and highest:
        _say_how(path, "16-bit values", highest, white)
    scaled = (values.astype(np.uint32) * 255 + white // 2) // white
    return (255 - scaled if inverted else scaled).astype(np.uint8)


def _of_floats(path: Path, values: np.ndarray, inverted: bool = False) -> np.ndarray:
    """Floating-point numbers of any shape -> uint8: as 0 to 1 if none is larger, else 0 to 255."""
    lowest, highest = float(values.min()), float(values.max())
    if not (lowest >= 0 and highest <= 255):  # NaN is not either
        raise UserError(
            f"{path}: floating-point values from {lowest:g} to {highest:g}, expected 0 to 1 or 0 to 255 throughout"
        )
    white = 1 if highest <= 1 else 255
    _say_how(path, "floating-point values", highest, white)
    scaled = (values * np.float32(255 / white)).round()
    return (255 - scaled if inverted else scaled).astype(np.uint8)


def _of_dark_colour(path: Path, rgb: np.ndarray, content: bytes | None) -> np.ndarray:
    """A colour picture of 12 (or 8) bits in 16, whose upper bits are `rgb`, read with all of its bits."""
    file = np.fromfile(path, np.uint8) if content is None else np.frombuffer(content, np.uint8)
    values = cv2.imdecode(file, cv2.IMREAD_UNCHANGED) if len(file) else None
    if values is None or values.dtype != np.uint16 or values.ndim != 3 or values.shape[:2] != rgb.shape[:2]:
        return rgb
    if values.shape[2] == 4 and values[..., 3].min() < values[..., 3].max():
        return rgb  # what shows through is already in it
    return _of_whole(path, values[..., 2::-1])


def encode_image(rgb: np.ndarray, suffix: str, quality: int = 95) -> bytes:
    """(H, W, 3) or (H, W) uint8 as the bytes of a picture file of this suffix; JPEG keeps full colour resolution."""
    if rgb.dtype != np.uint8:
        raise ValueError(f"encode_image takes uint8, not {rgb.dtype}")
    suffix = suffix.lower()
    options = {"quality": quality, "subsampling": 0} if KINDS.get(suffix) == "JPEG" else {}
    written = io.BytesIO()
    Image.fromarray(rgb).save(written, format=Image.registered_extensions()[suffix], **options)  # type: ignore[arg-type]
    return written.getvalue()


def write_image(path: Path, rgb: np.ndarray, quality: int = 95) -> None:
    """Write (H, W, 3) or (H, W) uint8 as the format the suffix names."""
    Path(path).write_bytes(encode_image(rgb, Path(path).suffix, quality))


def shrunk(image: np.ndarray, longest: int) -> tuple[np.ndarray, float]:
    """The picture shrunk to a longer side of at most `longest`, and how many px of the picture a px of that is."""
    factor = max(image.shape[:2]) / longest
    if factor <= 1:
        return image, 1.0
    shape = (max(1, round(image.shape[1] / factor)), max(1, round(image.shape[0] / factor)))
    return cv2.resize(image, shape, interpolation=cv2.INTER_AREA), factor


def _seen(image: np.ndarray, to_from: np.ndarray, shape: tuple[int, int], factor: int) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of the part of an image that a warp to `shape` samples, with some room, in whole cells of `factor`
    px; its edges are the image's where the warp reaches beyond them."""
    height, width = image.shape[0] // factor * factor, image.shape[1] // factor * factor
    corners = np.array([[x, y] for x in (0, shape[0] - 1) for y in (0, shape[1] - 1)], np.float64)
    found = geometry.apply(geometry.invert(to_from), corners)
    first = np.clip(np.floor(found.min(axis=0) / factor) - 2, 0, None) * factor
    last = np.clip((np.ceil(found.max(axis=0) / factor) + 3) * factor, None, (width, height))
    first = np.minimum(first, np.maximum(np.array([width, height]) - factor, 0))  # a warp that sees nothing of it
    last = np.maximum(last, np.minimum(factor, (width, height)))
    return int(first[0]), int(first[1]), int(last[0]), int(last[1])


_alone = threading.Lock()
_inside, _threads = 0, 0  # how many threads are in the block below, and OpenCV's own number before the first came


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """OpenCV's functions in one thread: faster for small pictures, and last bits that do not depend on the machine.

    The number is the process's: it is put back as the last of several threads leaves.
    """
    global _inside, _threads
    with _alone:
        if not _inside:
            _threads = cv2.getNumThreads()
            cv2.setNumThreads(1)
        _inside += 1
    try:
        yield
    finally:
        with _alone:
            _inside -= 1
            if not _inside:
                cv2.setNumThreads(_threads)


def warp(image: np.ndarray, to_from: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Resample `image` through the affine `to_from` into (size, size) or (width, height); edges are replicated.

    When the affine shrinks by more than 1.5 the image is first area-averaged by a whole factor, else bilinear
    sampling would skip pixels and a small face would come out in dots.
    """
    shape = (size, size) if isinstance(size, int) else size
    factor = math.floor(1 / max(geometry.scale_of(to_from), 1e-6) / 1.5)
    if factor >= 2 or max(image.shape[:2]) >= OPENCV_SIDE:
        factor = max(factor, 1)
        x0, y0, x1, y1 = _seen(image, to_from, shape, factor)
        if x1 > x0 and y1 > y0:
            small = (x1 - x0) // factor, (y1 - y0) // factor
            image = image[y0:y1, x0:x1]
            if factor >= 2:
                image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
            moved = geometry.compose(to_from, np.array([[1.0, 0, x0], [0, 1, y0]]))
            to_from = geometry.compose(moved, geometry.resize_affine(factor))
    if max(*image.shape[:2], *shape) >= OPENCV_SIDE:
        found = f"{image.shape[1]} x {image.shape[0]} px into {shape[0]} x {shape[1]}"
        raise UserError(f"a picture's side is too long to be moved: {found}, expected below {OPENCV_SIDE:,}")
    return cv2.warpAffine(image, to_from, shape, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
