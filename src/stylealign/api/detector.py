"""The Python API: `stylealign.load(model).predict(image, boxes=None)`. Torch is imported when a model is loaded.

>>> import stylealign
>>> detector = stylealign.load(run)                     # a finished run's folder
>>> faces = detector.predict(photo, boxes=[box])        # an array or a file; boxes round brows, chin and cheeks
>>> faces[0].landmarks.shape == (detector.schema.num_points, 2)
True
>>> crop = detector.predict(photo, whole_image=True)    # the picture is a crop of one face
>>> len(crop)
1
>>> both = detector.predict_batch([photo, photo], boxes=[[box], [box]])
>>> [len(faces) for faces in both]
[1, 1]
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stylealign.face.crop import CropConfig
from stylealign.face.schema import LandmarkSchema
from stylealign.predicting.candidates import Candidate, Rotate, Search, candidates_in
from stylealign.predicting.faces import find_faces, refuse_untrusted, tells_way_up
from stylealign.predicting.finders import Finder, mtcnn_finder
from stylealign.predicting.given_boxes import checked_box
from stylealign.predicting.network import LandmarkNetwork, open_network
from stylealign.predicting.predicted_face import Face, named
from stylealign.predicting.sources import Photo, read_photo

__all__ = ["Detector", "Face", "load"]

Image = np.ndarray | Path | str


def name_of(image: Image) -> str:
    """A file's name as given; nothing for an array."""
    return str(image) if isinstance(image, Path | str) else ""


def picture_of(image: Image) -> Photo:
    """A file or an array as a photo. Raises what `Detector.predict` raises for what is none."""
    if isinstance(image, Path | str):
        return read_photo(Path(image))
    array = np.asarray(image)
    if (
        array.dtype != np.uint8
        or array.ndim not in (2, 3)
        or (array.ndim == 3 and array.shape[2] != 3)
        or not array.size
    ):
        raise ValueError(
            f"a picture of shape {array.shape} and type {array.dtype}: expected (H, W, 3) or (H, W) uint8 RGB"
        )
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    return Photo(np.ascontiguousarray(array), np.eye(2, 3))


class Detector:
    """A trained detector with its crop contract, its mark-up and a face finder. Made by `load`."""

    def __init__(self, network: LandmarkNetwork, finder: Finder | None = None):
        """`finder`: not given, MTCNN (finders.yunet_finder makes another)."""
        self.network = network
        self._finder = finder or mtcnn_finder()

    @property
    def schema(self) -> LandmarkSchema:
        """Which landmark is which."""
        return self.network.schema

    @property
    def crop(self) -> CropConfig:
        """How faces are cut for it; applied by itself."""
        return self.network.crop

    def predict(
        self,
        image: Image,
        boxes: Sequence[Sequence[float]] | np.ndarray | None = None,
        *,
        whole_image: bool = False,
        refine: int = 1,
        flip: bool = False,
        rotate: Rotate = "0",
        least_confidence: float = 0.0,
    ) -> list[Face]:
        """The faces of one picture; an empty list where none is found.

        Args:
            image: (H, W, 3) uint8 RGB or (H, W) grey, or a file (whose EXIF orientation is heeded; landmarks are px
                as stored).
            boxes: landmark boxes x0, y0, x1, y1 (round brows, chin and cheeks), px of the picture; not given: faces
                are found.
            whole_image: the picture is a crop of one face.
            refine: rounds of cutting again round the landmarks found.
            flip: average with the answer on the mirrored face.
            rotate: degrees clockwise that hold the faces upright, or "auto".
            least_confidence: leave out faces of a lower `Face.face_confidence`; needs a detector with a trust.

        Raises:
            UserError: a file that is no picture, a box without area or outside of the picture, a least confidence of
                a detector that says none.
            ValueError: an array that is no picture.
        """
        return self.predict_batch(
            [image],
            None if boxes is None else [boxes],
            whole_image=whole_image,
            refine=refine,
            flip=flip,
            rotate=rotate,
            least_confidence=least_confidence,
        )[0]

    def predict_batch(
        self,
        images: Sequence[Image],
        boxes: Sequence[Sequence[Sequence[float]] | np.ndarray] | None = None,
        *,
        whole_image: bool = False,
        refine: int = 1,
        flip: bool = False,
        rotate: Rotate = "0",
        least_confidence: float = 0.0,
        batch_size: int = 16,
    ) -> list[list[Face]]:
        """`predict` for several pictures, their faces batched together: a list of faces a picture."""
        if boxes is not None and len(boxes) != len(images):
            raise ValueError(f"boxes of {len(boxes)} pictures for {len(images)} pictures")
        if rotate not in ("0", "90", "180", "270", "auto"):
            raise ValueError(f"rotate is {rotate!r}, expected '0', '90', '180', '270' or 'auto'")
        search = Search(
            crop_scale=self.crop.scale, finder=self._finder, whole_image=whole_image, rotate=rotate,
            network_turns=tells_way_up(self.network, check=True),
        )  # fmt: skip
        candidates: list[list[Candidate]] = []
        for i, image in enumerate(images):
            photo, where = picture_of(image), name_of(image) or f"picture {i}"
            given = None if boxes is None else [checked_box(box, where) for box in boxes[i]]
            candidates.append(candidates_in(photo, search, given, where))
        refuse_untrusted(least_confidence, self.network, flip)
        found = find_faces(
            self.network, candidates, refine, flip, batch_size, turn=rotate == "auto",
            least_confidence=least_confidence,
        )  # fmt: skip
        return [named(each.faces, name_of(image)) for image, each in zip(images, found, strict=True)]


def load(model: Path | str | None = None, accelerator: str = "cpu") -> Detector:
    """Load a finished detector run (or a checkpoint folder); not given: the detector that came with the package.

    Raises UserError for a folder that holds none, another kind of model, or weights that changed.
    """
    return Detector(open_network(None if model is None else Path(model), accelerator))
