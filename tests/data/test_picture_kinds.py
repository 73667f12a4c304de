"""Every kind of picture with its values, and what of a stranger's file is never opened, decoded or started."""

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, features

from stylealign.data import image as image_module
from stylealign.data.image import KINDS, encode_image, image_size, orientation_of, read_image
from stylealign.errors import UserError

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOUR = np.stack([RAMP, RAMP.T, 255 - RAMP], axis=-1)
LOSSY = {".jpg": 12, ".jpeg": 12, ".jfif": 12, ".webp": 40, ".avif": 40, ".gif": 40}


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_module, "_said", set())


def saved(path: Path, array: np.ndarray, **options: object) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", KINDS)
def test_every_kind_is_read_with_its_values(suffix: str, tmp_path: Path) -> None:
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    smooth = cv2.resize(COLOUR, (64, 64), interpolation=cv2.INTER_LINEAR)
    path = tmp_path / f"x{suffix.upper()}"
    path.write_bytes(encode_image(smooth, suffix))
    back = read_image(path)
    assert (back.shape, image_size(path)) == ((64, 64, 3), (64, 64))
    assert np.abs(back.astype(int) - smooth).max() <= LOSSY.get(suffix, 0)


def test_of_a_moving_picture_the_first_frame_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert (read_image(tmp_path / "x.gif") == (255, 0, 0)).all()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(("white", "said"), [(65535, ""), (4095, "taken as 0 to 4095"), (255, "taken as 0 to 255")])
@pytest.mark.parametrize("colour", [False, True])
def test_sixteen_bits_are_scaled_by_the_bits_they_use(
    colour: bool, white: int, said: str, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    eight = COLOUR if colour else RAMP
    deep = (eight.astype(float) * white / 255).round().astype(np.uint16)
    path = tmp_path / f"x{suffix}"
    path.write_bytes(cv2.imencode(suffix + "f" * (suffix == ".tif"), deep[..., ::-1] if colour else deep)[1].tobytes())
    want = eight if colour else np.repeat(RAMP[..., None], 3, axis=2)
    assert np.abs(read_image(path).astype(int) - want).max() <= (colour and white == 65535)  # there the upper byte
    assert (said in capsys.readouterr().err) if said else not capsys.readouterr().err


@pytest.mark.parametrize(("white", "said"), [(1, "taken as 0 to 1 "), (255, "taken as 0 to 255 ")])
def test_floating_point_pictures_are_scaled_by_their_range(
    white: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = saved(tmp_path / "x.tif", (RAMP / 255 * white).astype(np.float32))
    for _ in range(2):
        assert (read_image(path) == RAMP[..., None]).all()
    assert capsys.readouterr().err.count(said) == 1


@pytest.mark.parametrize("value", [-1.0, 256.0, 1e30, np.nan, np.inf])
def test_floating_point_values_of_no_known_range_are_refused(value: float, tmp_path: Path) -> None:
    values = RAMP.astype(np.float32)
    values[3, 4] = value
    with pytest.raises(UserError, match=r"x\.tif: floating-point values from .* expected 0 to 1 or 0 to 255"):
        read_image(saved(tmp_path / "x.tif", values))


@pytest.mark.parametrize("value", [-1, 65536])
def test_whole_numbers_of_more_than_sixteen_bits_are_refused(value: int, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.tif: values from .* expected 0 to 65535"):
        read_image(saved(tmp_path / "x.tif", np.full((4, 4), value, np.int32)))


def test_a_picture_whose_zero_is_white_is_turned(tmp_path: Path) -> None:
    deep = RAMP.astype(np.uint16) * 257
    saved(tmp_path / "x.tif", deep, tiffinfo={262: 0})
    with Image.open(tmp_path / "x.tif") as image:
        assert image.tag_v2[262] == 0  # type: ignore[attr-defined]
    assert (read_image(tmp_path / "x.tif") == 255 - RAMP[..., None]).all()


def test_no_program_is_started_for_postscript_whatever_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gs").write_text(f"#!/bin/sh\ntouch '{tmp_path}/started'\nexit 1\n")
    (tmp_path / "bin" / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}", prepend=":")
    for name in ("x.jpg", "x.eps"):
        (tmp_path / name).write_bytes(
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n%%EOF\n"
        )
        with pytest.raises(UserError, match="not an image that can be read"):
            read_image(tmp_path / name)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("kind", ["TGA", "ICO", "PCX", "JPEG2000", "SGI", "DDS"])
def test_kinds_that_are_not_listed_are_not_opened_by_content(kind: str, tmp_path: Path) -> None:
    try:
        Image.new("RGB", (16, 16)).save(tmp_path / "x.jpg", kind)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow writes no {kind}")
    with pytest.raises(UserError, match=r"x\.jpg: not an image .*expected JPEG, PNG"):
        read_image(tmp_path / "x.jpg")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("before", [True, False])
def test_a_text_that_unpacks_to_megabytes_is_refused(before: bool, tmp_path: Path) -> None:
    whole = encode_image(COLOUR, ".png")
    text = _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"A" * (8 << 20), 9))
    place = 33 if before else len(whole) - 12  # after the header, or before the end
    (tmp_path / "x.png").write_bytes(whole[:place] + text + whole[place:])
    with pytest.raises(UserError, match=r"x\.png: .*(not an image|damaged)"):
        read_image(tmp_path / "x.png")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("suffix", KINDS)
def test_damage_anywhere_ends_with_the_pictures_name(suffix: str, tmp_path: Path) -> None:
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    whole, rng = encode_image(COLOUR, suffix), np.random.default_rng(0)
    path = tmp_path / f"x{suffix}"
    for _ in range(60):
        content = bytearray(whole)
        for place in rng.integers(0, len(content), 3):
            content[place] = rng.integers(256)
        path.write_bytes(content[: rng.integers(1, len(content) + 1)])
        for look in (read_image, image_size, orientation_of):
            said = f"x{suffix}"
            try:
                look(path)
            except UserError as error:
                said = str(error)
            assert f"x{suffix}" in said


def test_a_decoder_that_fails_in_its_own_way_is_named_by_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "x.png", COLOUR)
    for error in (RuntimeError("odd"), NotImplementedError(), MemoryError(), struct.error("short"), IndexError()):

        def fails(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(Image.Image, "load", fails)
            if isinstance(error, RuntimeError):
                patch.setitem(Image.OPEN, "PNG", (fails, None))
            with pytest.raises(UserError, match=r"x\.png: (not an image|image cut short or damaged)"):
                read_image(path)


def test_what_is_no_file_and_what_is_too_large_is_refused_before_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe.png")  # to open it would wait for ever
    with pytest.raises(UserError, match=r"pipe\.png: not an image"):
        read_image(tmp_path / "pipe.png")
    with open(tmp_path / "x.png", "wb") as file:
        file.truncate(image_module.MAX_BYTES + 1)  # takes no room on disk
    with pytest.raises(UserError, match=r"x\.png: 1,073,741,825 bytes, expected at most"):
        read_image(tmp_path / "x.png")


def test_an_orientation_is_not_asked_of_a_picture_of_too_many_pixels(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.png", COLOUR)  # without EXIF, which Pillow looks for behind the pixels
    assert orientation_of(path, 256) == 1
    with pytest.raises(UserError, match="16 x 16 pixels, expected at most 255"):
        orientation_of(path, 255)
