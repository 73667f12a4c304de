"""ImageNet weights for a detector: a user's file, or the one that a small installed package carries."""

import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor, nn

from stylealign.detectors import DETECTORS, having
from stylealign.detectors.trunks import TRUNKS, Package, build_trunk, load_imagenet_trunk, trunks_in
from stylealign.errors import UserError
from stylealign.training.weights import read_state

PACKAGE = Path("package")  # what --pretrained says instead of a file


def packaged_file(package: Package) -> Path:
    """The weights' file of an installed package, found without running its code. Raises UserError where it is not
    installed, and where the file is not the one that was looked at."""
    spec = find_spec(package.name)
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    if not folders:
        raise UserError(f"--pretrained package: {package.name} is not installed; get it with: {package.install}")
    path = Path(folders[0]) / package.file
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{path}: the weights of {package.name} cannot be read ({error.strerror})") from None
    if found != package.sha256:
        raise UserError(
            f"{path}: not the weights that {package.name} was known to carry (SHA-256 {found[:12]}..., expected "
            f"{package.sha256[:12]}...)"
        )
    return path


def _file_of(path: Path, trunk: str | None, whose: str, hint: str = "") -> Path:
    """The file of ImageNet weights for a trunk of the table: `path`, or for `package` the installed package's.

    Raises UserError where no package carries any for it (None: for no trunk), with `whose` they were to be, and `hint`,
    how a trunk is named.
    """
    if path != PACKAGE:
        return path
    known = TRUNKS[trunk].imagenet if trunk else None
    if known is None or known.package is None:
        having_one = [other for other, entry in TRUNKS.items() if entry.imagenet and entry.imagenet.package]
        raise UserError(
            f"--pretrained package: no package carries weights for {whose}; expected one of the trunks "
            f"{', '.join(having_one)}{hint and f' (as in {hint} {having_one[0]})'}, or a file"
        )
    return packaged_file(known.package)


def load_trunk(trunk: nn.Module, name: str, path: Path, size: int) -> None:
    """Load a trunk's ImageNet weights, for pictures of `size` px; `path` is a file, or `package`."""
    file = _file_of(path, name, name)
    load_imagenet_trunk(trunk, name, size, read_state(file), str(file))


def open_trunk(name: str, path: Path, size: int) -> nn.Module:
    """A trunk of the table with its ImageNet weights, as `load_trunk` takes them."""
    trunk, _ = build_trunk(name, size, 1.0, 32)
    load_trunk(trunk, name, path, size)
    return trunk


def open_known_trunk(names: Sequence[str], path: Path, size: int) -> tuple[str, nn.Module]:
    """The one of these trunks whose ImageNet weights a file holds, with its name; `path` is a file, or `package`.

    Of packages the first that is installed is taken. Raises UserError where the file is of none of them.
    """
    known = {name: entry for name in names if (entry := TRUNKS[name].imagenet) is not None}
    if path == PACKAGE:
        packages = {name: entry.package for name, entry in known.items() if entry.package is not None}
        there = [name for name, package in packages.items() if find_spec(package.name) is not None]
        name = there[0] if there else list(packages)[-1]  # whose absence is then said
        return name, open_trunk(name, path, size)
    state = read_state(path)
    for name, entry in known.items():
        if f"{entry.stem}.weight" in state:
            return name, open_trunk(name, path, size)
    titles = " or ".join(entry.title for entry in known.values())
    raise UserError(f"{path}: expected the ImageNet weights of {titles}; found none of their names")


def load_pretrained(model: nn.Module, name: str, path: Path) -> None:
    """Load ImageNet weights into the part of a network that has their names; `path` is a file, or `package`."""
    load = DETECTORS[name].pretrained
    if load is None:
        raise UserError(
            f"{path}: {name} has no part that ImageNet weights fit; --pretrained is for {having('pretrained')}"
        )
    trunk = next((trunk for trunk, _ in trunks_in(model)), None)
    whose = name if trunk is None else f"{name} with trunk {trunk}"
    file = _file_of(path, trunk, whose, f"--{DETECTORS[name].section}.trunk")
    state: dict[str, Tensor] = read_state(file)
    load(model, state, str(file))
