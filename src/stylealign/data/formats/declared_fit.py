"""Numbers of a tool's files against the pictures on the disk: by the sizes that it declares they become stored pixels.

Knows no format: whoever reads one says which picture was declared to have which size.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from stylealign.data.formats.declared_size import SHOWN, TURNED, Fit, Size, cornered, fit, sizes, turned
from stylealign.data.formats.entry import ReadOptions, inspect_image, place_problem, turn_of


class DeclaredSizes:
    """Brings the numbers of a source to stored pixels, by the sizes that it declares for its images."""

    def __init__(
        self,
        images: Callable[[], Iterable[tuple[Path, Size | None]]],
        root: Path,
        options: ReadOptions,
        upright: bool = False,
    ):
        """`images` gives each picture below `root` with its declared (width, height), or None; asked when needed.

        `upright`: who made the source showed pictures as EXIF turns them wherever sizes tell nothing, and counted from
        the corner of the first pixel.
        """
        self._images, self._root, self._options, self._shows_upright = images, root, options, upright
        self._upright: bool | str | None = None  # asked when needed

    def fit(self, path: Path, declared: Size | None) -> Fit | str | None:
        """How the numbers of an image become stored pixels, what is wrong, or None: nothing tells, or unreadable.

        Without a declared size they count what the tool showed: the picture as EXIF turns it, if tools do that.
        """
        found = self._fit(path, declared)
        if isinstance(found, Fit) and self._shows_upright:
            return found._replace(stored_from_declared=cornered(found.stored_from_declared))
        return found

    def _fit(self, path: Path, declared: Size | None) -> Fit | str | None:
        if (declared is None and not self._shows_upright) or place_problem(path, self._root):
            return None
        stored = inspect_image(path, self._options)
        if isinstance(stored, str):
            return None  # checked_face says what is wrong with it
        turn = turn_of(path)
        if declared is None:
            upright = self._tool_turns() if turn != 1 else False
            if isinstance(upright, str):
                return f"image {path}: EXIF turns it; {upright}"
            plain = Fit(np.eye(2, 3))
            return plain if upright is False else turned(plain, stored, stored, turn)._replace(why=SHOWN)
        found = fit(declared, stored, turn)
        if found is None:
            return f"image {path}: {sizes(declared, stored, turn)}: expected the size its landmarks are for"
        if found.either:
            upright = self._tool_turns()
            if upright is None and self._shows_upright:
                return turned(found, declared, stored, turn)._replace(why=SHOWN)
            if upright is None:
                self._options.notes.add(
                    "pictures have the same size turned by EXIF; landmarks are taken as of the stored pixels", path.name
                )
            elif isinstance(upright, str):
                return f"image {path}: EXIF turns it; {upright}"
            elif upright:
                return turned(found, declared, stored, turn)
        return found

    def _tool_turns(self) -> bool | str | None:
        """Whether the source was annotated on pictures as EXIF turns them, by those whose size tells; None: none."""
        if self._upright is None:
            seen = set()
            for path, declared in self._images():
                if declared is None or place_problem(path, self._root):
                    continue
                stored = inspect_image(path, self._options)
                if isinstance(stored, str) or (turn := turn_of(path)) < 5:
                    continue
                found = fit(declared, stored, turn)
                if found is not None and not found.either:
                    seen.add(TURNED in found.how)
            self._upright = (
                "some declared sizes are as stored and some as turned, and this one may be either"
                if len(seen) > 1
                else next(iter(seen), "")
            )
        return None if self._upright == "" else self._upright
