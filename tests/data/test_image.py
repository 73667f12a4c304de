"""Image files: colours, bit depths and rotations as stored; what is broken, missing or too large is refused."""

import gc
import struct
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from stylealign.data import image as image_module
from stylealign.data.image import (
    _contents,
    image_size,
    one_opencv_thread,
    orientation_of,
    pixels_of,
    read_image,
    warp,
    write_image,
)
from stylealign.errors import UserError
from stylealign.face import geometry
from stylealign.face.orientation import upright_affine

RED = np.full((12, 20, 3), (255, 0, 0), np.uint8)


@pytest.mark.parametrize(("suffix", "tolerance"), [(".png", 0), (".bmp", 0), (".tif", 0), (".jpg", 3), (".webp", 40)])
def test_red_stays_red(suffix: str, tolerance: int, tmp_path: Path) -> None:
    path = tmp_path / f"red{suffix}"
    write_image(path, RED)
    back = read_image(path)
    assert (back.shape, back.dtype, image_size(path)) == ((12, 20, 3), np.uint8, (20, 12))
    assert np.abs(back.astype(int) - RED).max() <= tolerance


def test_colour_edges_survive_jpeg(tmp_path: Path) -> None:
    """Without chroma subsampling a red pixel beside a blue one keeps its colour."""
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, ::2, 0] = stripes[:, 1::2, 2] = 255
    write_image(tmp_path / "s.jpg", stripes)
    assert np.abs(read_image(tmp_path / "s.jpg").astype(int) - stripes).mean() < 6


def test_an_exif_rotation_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter
    Image.fromarray(RED).save(tmp_path / "r.jpg", exif=exif)
    assert read_image(tmp_path / "r.jpg").shape == (12, 20, 3)
    assert image_size(tmp_path / "r.jpg") == (20, 12)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_a_picture_is_turned_once_by_whoever_turns_it(suffix: str, orientation: int, tmp_path: Path) -> None:
    """Pillow turns a TIFF as it decodes it, and nothing else: pixels, size and orientation have to tell one story."""
    path = tmp_path / f"turned{suffix}"
    stored = np.zeros((40, 64, 3), np.uint8)
    stored[:16, :32] = 255  # in the stored picture's first corner
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(path, exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("L")) > 127

    size, said, pixels = image_size(path), orientation_of(path), read_image(path)
    assert pixels.shape[:2] == size[::-1]
    view = upright_affine(said, *size)
    corners = geometry.apply(view, np.argwhere(pixels[..., 0] > 127)[:, ::-1].astype(float)).round().astype(int)
    assert set(map(tuple, corners)) == set(map(tuple, np.argwhere(upright)[:, ::-1]))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_a_size_is_read_without_the_pixels(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / f"r{suffix}", RED)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda image: pytest.fail("decoded"))
    assert image_size(tmp_path / f"r{suffix}") == (20, 12)


@pytest.mark.parametrize(
    ("image", "want"),
    [
        (Image.fromarray(np.full((4, 4), 77, np.uint8)), (77, 77, 77)),
        (Image.fromarray(np.full((4, 4), 77 * 257, np.uint16)), (77, 77, 77)),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 255)), (255, 0, 0)),
        (Image.new("LA", (4, 4), (10, 255)), (10, 10, 10)),
        (Image.new("RGB", (4, 4), (1, 2, 3)).quantize(4), (1, 2, 3)),
        (Image.new("1", (4, 4), 1), (255, 255, 255)),
    ],
    ids=["grey", "16 bits", "transparent", "opaque", "grey with alpha", "palette", "1 bit"],
)
def test_every_kind_of_pixel_becomes_rgb(image: Image.Image, want: tuple, tmp_path: Path) -> None:
    image.save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png")[1, 1].tolist() == list(want)


@pytest.mark.parametrize("channels", [3, 4])
def test_colours_of_12_bits_in_16_are_scaled_with_or_without_an_opaque_alpha(channels: int, tmp_path: Path) -> None:
    values = np.zeros((4, 4, channels), np.uint16)
    values[..., :3] = (300, 2000, 4000)  # BGR, of 4,095
    values[0, 0, 0] = 0
    if channels == 4:
        values[..., 3] = 65535
    cv2.imwrite(str(tmp_path / "x.png"), values)
    assert read_image(tmp_path / "x.png")[1, 1].tolist() == [round(v * 255 / 4095) for v in (4000, 2000, 300)]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "PA", "CMYK", "1", "YCbCr", "see-through P", "keyed"])
def test_strips_of_a_picture_are_converted_as_the_whole_is(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's conversions in one go take 14 to 22 bytes a pixel, by strips 7."""
    pixels = np.random.default_rng(0).integers(0, 256, (37, 11, 4), dtype=np.uint8)
    image = Image.fromarray(pixels)
    if mode in ("see-through P", "keyed"):
        image = image.convert("RGB").quantize(8) if mode != "keyed" else image.convert("RGB")
        image.info["transparency"] = 3 if mode != "keyed" else tuple(map(int, pixels[0, 0, :3]))
    elif mode != "RGBA":
        image = image.convert("P").convert("PA") if mode == "PA" else image.convert("RGB").convert(mode)
    seen = image
    if mode in ("RGBA", "LA", "PA", "see-through P", "keyed"):
        seen = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    monkeypatch.setattr(image_module, "STRIP_PIXELS", 50)
    assert np.array_equal(pixels_of(image, "it")[0], np.asarray(seen.convert("RGB")))


def test_cmyk_jpegs_are_read(tmp_path: Path) -> None:
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "x.jpg")
    assert np.abs(read_image(tmp_path / "x.jpg")[0, 0].astype(int) - [255, 0, 0]).max() < 10


def _noise(path: Path) -> Path:
    write_image(path, np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
@pytest.mark.parametrize("share", [0.5, 0.95])
def test_pictures_cut_short_are_refused(suffix: str, share: float, tmp_path: Path) -> None:
    path = _noise(tmp_path / f"x{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=rf"x\{suffix}: (image cut short or damaged|not an image)"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"<svg/>", b"\0" * 999])
def test_files_that_are_no_picture_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(content)
    for read in (read_image, image_size):
        with pytest.raises(UserError, match=r"x\.jpg: (not an image|image cut short)"):
            read(tmp_path / "x.jpg")


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such image"):
        read_image(tmp_path / "none.png")
    with pytest.raises(UserError, match="not an image"):
        read_image(tmp_path)


def test_a_header_that_promises_too_many_pixels_is_refused_without_decoding(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    (tmp_path / "bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    )
    with pytest.raises(UserError, match="60000 x 60000 pixels, expected at most 100,000,000"):
        read_image(tmp_path / "bomb.png")
    assert image_size(tmp_path / "bomb.png") == (60_000, 60_000)
    with pytest.raises(UserError, match="expected at most 100 "):
        read_image(_noise(tmp_path / "x.png"), max_pixels=100)


def test_pillows_own_limit_is_left_to_whoever_runs_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was lifted for the whole process; ours counts whatever that one is."""
    path = _noise(tmp_path / "x.png")
    width, height = image_size(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    _contents.cache_clear()
    assert read_image(path).shape == (height, width, 3)
    assert read_image(Path("x.png"), content=path.read_bytes()).shape == (height, width, 3)
    assert image_size(path) == (width, height)
    with pytest.raises(UserError, match="expected at most 100 "):
        read_image(path, max_pixels=100)
    assert Image.MAX_IMAGE_PIXELS == 10
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)


def test_a_file_is_closed_once_it_is_read_or_refused(tmp_path: Path) -> None:
    (tmp_path / "no.png").write_bytes(b"hello")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        read_image(_noise(tmp_path / "x.png"))
        image_size(tmp_path / "x.png")
        with pytest.raises(UserError):
            read_image(tmp_path / "no.png")
        gc.collect()
    with pytest.raises(UserError, match=r"no\.png: not an image that can be read \(cannot identify image file '"):
        read_image(tmp_path / "no.png")


def test_only_bytes_are_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="uint8"):
        write_image(tmp_path / "x.png", np.zeros((4, 4, 3)))


def test_warping_by_nothing_changes_nothing_and_mirroring_reverses_columns() -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert np.array_equal(warp(image, np.array([[1.0, 0, 0], [0, 1, 0]]), 16), image)
    assert np.array_equal(warp(image, geometry.flip_affine(16), 16), image[:, ::-1])
    assert warp(image, np.eye(2, 3), (8, 4)).shape == (4, 8, 3)


def test_edges_are_replicated_outside_the_picture() -> None:
    image = np.full((8, 8, 3), 9, np.uint8)
    assert (warp(image, np.array([[1.0, 0, 20], [0, 1, 20]]), 32) == 9).all()


def test_a_part_of_a_large_picture_is_cut_as_if_all_of_it_had_been_averaged() -> None:
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (307, 411, 3), dtype=np.uint8)
    for factor in (2, 3, 7):
        whole = cv2.resize(
            image[: 307 // factor * factor, : 411 // factor * factor], (411 // factor, 307 // factor),
            interpolation=cv2.INTER_AREA,
        )  # fmt: skip
        for centre in ((200.0, 150.0), (5.0, 300.0), (-30.0, 40.0), (900.0, 900.0)):  # inside, at an edge, beyond it
            affine = geometry.rotate_scale_affine(centre, 30, 0.6 / factor)
            affine[:, 2] += 10 - np.array(centre)
            wanted = cv2.warpAffine(
                whole, geometry.compose(affine, geometry.resize_affine(factor)), (20, 20), flags=cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )  # fmt: skip
            assert np.array_equal(warp(image, affine, 20), wanted)


@pytest.mark.parametrize("factor", [2, 3, 4.5, 8])
def test_shrinking_averages_instead_of_skipping_pixels(factor: float) -> None:
    checks = (np.indices((160, 160)).sum(axis=0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, axis=2)
    size = int(160 / factor)
    small = warp(checks, geometry.crop_affine(np.array([-0.5, -0.5, 159.5, 159.5]), 1.0, size), size)
    assert np.abs(small[1:-1, 1:-1].astype(int) - 127.5).max() < 40


def test_pictures_longer_than_opencv_moves_are_moved_by_their_part() -> None:
    image = np.zeros((30, 40_000, 3), np.uint8)
    image[10:20, 35_000:35_010] = (10, 20, 30)
    for scale in (1.0, 2.0, 0.4):
        found = warp(image, np.array([[scale, 0, -35_000 * scale], [0, scale, -10 * scale]]), int(10 * scale))
        assert (found[1:-1, 1:-1] == (10, 20, 30)).all()
    assert not warp(image, np.array([[1.0, 0, 0], [0, 1, 0]]), 20).any()
    with pytest.raises(UserError, match=r"40000 x 30 px into 40000 x 30, expected below 32,767"):
        warp(image, np.array([[1.0, 0, 0], [0, 1, 0]]), (40_000, 30))


def test_opencvs_threads_come_back_when_the_last_of_several_leaves() -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        first, second = one_opencv_thread(), one_opencv_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert cv2.getNumThreads() == 1
        second.__exit__(None, None, None)
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


def test_the_arguments_are_left_alone() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    image.setflags(write=False)
    affine = np.array([[0.2, 0, 0], [0, 0.2, 0]])
    affine.setflags(write=False)
    warp(image, affine, 12)
