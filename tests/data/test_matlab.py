"""MATLAB files: what SciPy and h5py write is read with the same values; damage, bombs and links elsewhere are not."""

import struct
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from builders.layouts import picture
from stylealign.data import matlab
from stylealign.data.formats import FORMATS, BadEntry, ReadOptions
from stylealign.data.matlab import BadMatlab, hdf5_array, is_hdf5, read_mat
from stylealign.errors import UserError
from stylealign.face.sample import FaceSample
from stylealign.face.schema import AFLW19, COFW29

DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]


def cells(values: list) -> np.ndarray:
    made = np.empty((len(values), 1), object)
    for i, value in enumerate(values):
        made[i, 0] = value
    return made


@pytest.mark.parametrize("packed", [False, True])
def test_what_scipy_writes_is_read_with_the_same_values(packed: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values: dict = {f"n{d}": (rng.uniform(0, 100, (5, 7))).astype(d) for d in DTYPES}
    values |= {"cube": rng.integers(0, 255, (3, 4, 2), dtype=np.uint8), "one": np.array([[3.5]])}
    values |= {"text": "a/b é.jpg", "rows": np.array(["abc", "xyz"]), "empty": np.zeros((0, 3))}
    values |= {"names": cells(["a.jpg", "long name.jpg", ""]), "pictures": cells([values["nu1"], values["cube"]])}
    savemat(tmp_path / "x.mat", {**values, "s": {"other": 1}, "z": np.array([[1j]])}, do_compression=packed)
    found, want = read_mat(tmp_path / "x.mat", list(values)), loadmat(tmp_path / "x.mat")
    for name in values:
        if want[name].dtype == object:
            for a, b in zip(found[name].ravel(), want[name].ravel(), strict=True):
                assert np.array_equal(np.ravel(a), np.ravel(b)), name
        else:
            assert np.array_equal(found[name], want[name]), name
            assert found[name].dtype.newbyteorder("=") == want[name].dtype or want[name].dtype.kind == "U", name


def big_endian(values: np.ndarray, name: bytes = b"x") -> bytes:
    """A file as a big-endian machine wrote it."""

    def part(kind: int, content: bytes) -> bytes:
        return struct.pack(">II", kind, len(content)) + content + b"\0" * (-len(content) % 8)

    body = part(6, struct.pack(">II", 6, 0)) + part(5, struct.pack(">2i", *values.shape)) + part(1, name)
    body += part(9, values.astype(">f8").tobytes(order="F"))
    return b" " * 124 + b"\x01\x00MI" + part(14, body)


def test_a_file_of_the_other_byte_order_is_read(tmp_path: Path) -> None:
    values = np.arange(6.0).reshape(2, 3)
    (tmp_path / "x.mat").write_bytes(big_endian(values))
    assert np.array_equal(read_mat(tmp_path / "x.mat", ["x"])["x"], values)


def aflw(folder: Path, rows: int = 2, **changes: object) -> Path:
    rng = np.random.default_rng(0)
    for i in range(rows):
        picture(folder / "data" / "flickr" / "0" / f"{i}.png")
    values: dict = {
        "nameList": cells([f"0/{i}.png" for i in range(rows)]),
        "data": np.concatenate([rng.uniform(5, 55, (rows, 19)), rng.uniform(5, 35, (rows, 19))], axis=1),
        "bbox": np.tile([5.0, 50, 5, 35], (rows, 1)),
        "mask_new": np.ones((rows, 19)),
        "ra": np.arange(1.0, rows + 1)[None],
    }
    savemat(folder / "AFLWinfo_release.mat", {k: v for k, v in {**values, **changes}.items() if v is not None})
    return folder / "AFLWinfo_release.mat"


def test_damage_anywhere_in_a_file_ends_with_its_name_and_soon(tmp_path: Path) -> None:
    """SciPy reads past the end of some of these and never ends with others."""
    path = aflw(tmp_path)
    rng, options, seen = np.random.default_rng(0), ReadOptions(schema=AFLW19), set()
    for packed in (False, True):
        names = ("nameList", "data", "bbox", "mask_new", "ra")
        values = {name: loadmat(aflw(tmp_path))[name] for name in names}
        savemat(path, values, do_compression=packed)
        whole = path.read_bytes()
        for round in range(150):
            content = bytearray(whole)
            for place in rng.integers(0, len(content), rng.integers(1, 5)):
                content[place] = rng.choice([0, 1, 127, 255, rng.integers(256)])
            path.write_bytes(content[: rng.integers(len(content)) if round % 4 == 0 else None])
            said = ""
            try:
                seen |= {type(entry) for entry in FORMATS["aflw"].read(path, options)}
            except UserError as error:
                said = str(error)
                seen.add(UserError)
            assert "AFLWinfo_release.mat: " in said or not said
    assert seen == {FaceSample, BadEntry, UserError}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ra": "text"}, "expected numbers"),
        ({"ra": np.array([[np.nan, 1]])}, "expected numbers"),
        ({"nameList": cells(["0/0.png"])}, "expected as many names as rows"),
        ({"data": np.zeros((2, 37))}, "expected as many names as rows, 38, 4 and 19 columns"),
        ({"bbox": cells([1, 2])}, "columns"),
        ({"data": np.zeros((2, 38)) + 1j}, "expected real numbers, text or cells"),
        ({"mask_new": {"a": 1}}, "expected real numbers, text or cells"),
        ({"ra": None}, "no ra in it"),
    ],
)
def test_values_of_another_kind_are_named(changes: dict, message: str, tmp_path: Path) -> None:
    path = aflw(tmp_path, **changes)
    with pytest.raises(UserError, match=rf"AFLWinfo_release\.mat: .*{message}"):
        list(FORMATS["aflw"].read(path, ReadOptions(schema=AFLW19)))


def test_a_name_that_is_no_text_is_a_bad_face(tmp_path: Path) -> None:
    path = aflw(tmp_path, nameList=cells(["0/0.png", 7]))
    good, bad = FORMATS["aflw"].read(path, ReadOptions(schema=AFLW19))
    assert isinstance(good, FaceSample)
    assert "row 2: its name in nameList is no text" in str(bad)


def test_what_unpacks_to_more_than_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matlab, "MAX_BYTES", 100_000)
    savemat(tmp_path / "x.mat", {"x": np.zeros((200, 200))}, do_compression=True)
    with pytest.raises(UserError, match="unpacks to more than 100,000 bytes"):
        read_mat(tmp_path / "x.mat", ["x"])
    savemat(tmp_path / "y.mat", {"x": np.zeros((200, 200))})
    with pytest.raises(UserError, match="more than 100,000 bytes"):
        read_mat(tmp_path / "y.mat", ["x"])


def test_more_cells_than_bytes_and_cells_without_end_are_refused(tmp_path: Path) -> None:
    savemat(tmp_path / "x.mat", {"x": cells([1.0])})
    content = (tmp_path / "x.mat").read_bytes()
    place = content.index(struct.pack("<II", 1, 1), 128)
    (tmp_path / "x.mat").write_bytes(content[:place] + struct.pack("<II", 2**31 - 1, 2**31 - 1) + content[place + 8 :])
    with pytest.raises(UserError, match="cells in"):
        read_mat(tmp_path / "x.mat", ["x"])
    value: object = 1.0
    for _ in range(20):
        value = cells([value])
    savemat(tmp_path / "y.mat", {"x": value})
    with pytest.raises(UserError, match="cells in cells on more than 8 levels"):
        read_mat(tmp_path / "y.mat", ["x"])


def test_a_text_cut_short_is_not_taken_for_a_shorter_one(tmp_path: Path) -> None:
    savemat(tmp_path / "x.mat", {"x": "0123456789" * 4})
    content = (tmp_path / "x.mat").read_bytes()
    (tmp_path / "x.mat").write_bytes(content[:-8])
    with pytest.raises(UserError, match=r"a part of .* bytes where .* are left"):
        read_mat(tmp_path / "x.mat", ["x"])


def test_packed_data_cut_short_are_refused(tmp_path: Path) -> None:
    savemat(tmp_path / "x.mat", {"x": np.random.default_rng(0).uniform(size=(50, 50))}, do_compression=True)
    content = (tmp_path / "x.mat").read_bytes()
    packed = zlib.decompress(content[136:])
    half = zlib.compress(packed)[:-2000]
    (tmp_path / "x.mat").write_bytes(content[:128] + struct.pack("<II", 15, len(half)) + half)
    with pytest.raises(UserError, match="packed data are cut short"):
        read_mat(tmp_path / "x.mat", ["x"])


# ------------------------------------------------------------------------------------------------------ version 7.3


def cofw(folder: Path, **changes: object) -> Path:
    """COFW_train.mat of one face with a grey picture; `changes` replace what it holds by something else."""
    grid = np.stack(np.meshgrid(np.arange(5, 55, 10), np.arange(5, 35, 5)), -1).reshape(-1, 2)[:29].astype(float)
    path = folder / "COFW_train.mat"
    with h5py.File(path, "w") as file:
        options = changes.pop("options", {})
        pixels = changes.pop("pixels", np.arange(60 * 40).reshape(60, 40).astype(np.uint8))
        file.create_dataset("pic", **({"data": pixels} if "shape" not in options else {}), **options)  # type: ignore
        reference = np.empty((1, 1), h5py.ref_dtype)
        reference[0, 0] = file["pic"].ref
        values = {
            "IsTr": reference,
            "phisTr": np.r_[grid.T.ravel(), np.zeros(29)][:, None],
            "bboxesTr": np.array([[5.0, 5, 40, 30]]).T,
        }
        for name, value in {**values, **changes}.items():
            if isinstance(value, str):
                file.create_dataset(name, (1, 1), h5py.ref_dtype)
            else:
                file[name] = value
    return path


def read_cofw(path: Path, max_pixels: int = 10_000) -> list:
    options = ReadOptions(schema=COFW29, extract_to=path.parent / "images", max_pixels=max_pixels)
    return list(FORMATS["cofw"].read(path, options))


def test_a_picture_in_hdf5_is_read(tmp_path: Path) -> None:
    path = cofw(tmp_path)
    assert is_hdf5(path)
    (face,) = read_cofw(path)
    assert isinstance(face, FaceSample)


def test_nothing_of_another_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_bytes(b"user:secret:of-another-file\n" * 400)
    options = {"shape": (60, 40), "dtype": "u1", "external": [(str(tmp_path / "secret.txt"), 0, 2400)]}
    (bad,) = read_cofw(cofw(tmp_path, options=options))
    assert "kept in an external file" in bad.message
    with h5py.File(tmp_path / "other.mat", "w") as other:
        other["phisTr"] = np.zeros((87, 1))
    for link in (h5py.ExternalLink("other.mat", "/phisTr"), h5py.SoftLink("/bboxesTr")):
        with pytest.raises(UserError, match="phisTr is a link to another place"):
            read_cofw(cofw(tmp_path, phisTr=link))
    layout = h5py.VirtualLayout((87, 1), "f8")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.mat"), "phisTr", (87, 1))
    with h5py.File(tmp_path / "virtual.mat", "w") as file:
        file.create_virtual_dataset("phisTr", layout)
    with h5py.File(tmp_path / "virtual.mat") as file, pytest.raises(BadMatlab, match="external file"):
        hdf5_array(file, "phisTr")
    assert not (tmp_path / "images").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"IsTr": np.ones((1, 1))}, "a reference to nothing"),
        ({"IsTr": "null"}, "a reference to nothing"),
        ({"pixels": np.zeros((0, 0), np.uint8)}, "expected 1 to 10,000 pixels"),
        ({"pixels": np.zeros((300, 101), np.uint8)}, "expected at most 30,000"),
        ({"options": {"shape": (1_000_000, 1_000_000), "dtype": "u1", "chunks": (64, 64)}}, "expected at most 30,000"),
        ({"options": {"shape": (2, 2), "dtype": "u1", "chunks": (9999, 9999), "maxshape": (None, None)}}, "at most"),
        ({"pixels": np.zeros((60, 40))}, "expected uint8"),
        ({"phisTr": np.full((87, 1), b"x")}, "expected numbers"),
        ({"phisTr": np.zeros((87, 2))}, "1 picture, phis"),
        ({"bboxesTr": np.zeros((3, 1))}, "expected N"),
    ],
)
def test_a_file_of_something_else_is_named(changes: dict, message: str, tmp_path: Path) -> None:
    try:
        said = [str(entry) for entry in read_cofw(cofw(tmp_path, **changes))]
    except UserError as error:
        said = [str(error)]
    assert message in said[0]
    assert "COFW_train.mat" in said[0]
