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

from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from stylealign.api.pictures import Channels, Image, described, is_one, name_of, picture_of
from stylealign.api.predicted import Faces
from stylealign.api.values import whole
from stylealign.errors import UserError, counted
from stylealign.face.crop import CropConfig
from stylealign.face.schema import LandmarkSchema
from stylealign.predicting.candidates import Candidate, Rotate, Search, candidates_in
from stylealign.predicting.clock import Clock
from stylealign.predicting.faces import find_faces, refuse_untrusted, tells_way_up
from stylealign.predicting.finders import Finder, MtcnnFinder
from stylealign.predicting.given_boxes import checked_box
from stylealign.predicting.network import LandmarkNetwork, open_network
from stylealign.predicting.predicted_face import Face, named
from stylealign.predicting.sources import Source
from stylealign.predicting.tracking import TrackConfig, Tracker
from stylealign.predicting.video import Video

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Detector", "Face", "Faces", "load"]


def _check(refine: int, batch_size: int, least_confidence: float) -> None:
    """Raises ValueError for what the command line refuses as well."""
    for name, value, least in (("refine", refine, 0), ("batch_size", batch_size, 1)):
        whole(value, name, least)
    if not isinstance(least_confidence, int | float | np.number) or not 0 <= least_confidence <= 1:
        raise ValueError(f"least_confidence is {least_confidence!r}, expected 0 to 1")


class Detector:
    """A trained detector with its crop contract, its mark-up and a face finder. Made by `load`."""

    def __init__(self, network: LandmarkNetwork, finder: Finder | None = None):
        """`finder`: not given, MTCNN (finders.yunet_finder makes another)."""
        self.network = network
        self._own_finder = finder is not None
        self._finder = finder or MtcnnFinder()

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
        channels: Channels = "rgb",
    ) -> Faces:
        """The faces of one picture; an empty list where none is found.

        Args:
            image: a path, bytes, an open file, a Pillow image (whose EXIF orientation is heeded; landmarks are px as
                stored), or an array or a tensor: (H, W), (H, W, C) or (C, H, W) of 1, 3 or 4 channels, uint8 or
                floating point from 0 to 1.
            boxes: landmark boxes x0, y0, x1, y1 (round brows, chin and cheeks), px of the picture; not given: faces
                are found.
            whole_image: the picture is a crop of one face.
            refine: rounds of cutting again round the landmarks found.
            flip: average with the answer on the mirrored face.
            rotate: degrees clockwise that hold the faces upright, or "auto".
            least_confidence: leave out faces of a lower `Face.confidence`; needs a detector with a trust.
            channels: the order in arrays and tensors; OpenCV's is "bgr".

        Raises:
            UserError: a file that is no picture, a box without area or outside of the picture, a least confidence of
                a detector that says none.
            ValueError: an object that is no picture.
        """
        return self.predict_batch(
            [image],
            None if boxes is None else [boxes],
            whole_image=whole_image,
            refine=refine,
            flip=flip,
            rotate=rotate,
            least_confidence=least_confidence,
            channels=channels,
        )[0]

    def predict_batch(
        self,
        images: "Sequence[Image] | np.ndarray | Tensor",
        boxes: Sequence[Sequence[Sequence[float]] | np.ndarray | None] | None = None,
        *,
        whole_image: bool = False,
        refine: int = 1,
        flip: bool = False,
        rotate: Rotate = "0",
        least_confidence: float = 0.0,
        channels: Channels = "rgb",
        batch_size: int = 16,
    ) -> list[Faces]:
        """`predict` for several pictures (a list, or an array or tensor with one more axis): a list of faces a picture.

        Their faces are batched together. Boxes of None: the faces of that picture are found.
        """
        if isinstance(images, str | bytes | Path) or not hasattr(images, "__len__"):
            raise ValueError(
                f"several pictures are expected to be a list; found an object of type {type(images).__name__}"
            )
        if is_one(images):
            raise ValueError(
                f"several pictures are expected to be a list, or to have four axes; found {described(images)}"
            )
        _check(refine, batch_size, least_confidence)
        if boxes is not None and whole_image:
            raise ValueError("boxes and whole_image: expected one of the two")
        if boxes is not None and len(boxes) != len(images):
            raise ValueError(f"boxes of {counted(len(boxes), 'picture')} for {counted(len(images), 'picture')}")
        if rotate not in ("0", "90", "180", "270", "auto"):
            raise ValueError(f"rotate is {rotate!r}, expected '0', '90', '180', '270' or 'auto'")
        search = Search(
            crop_scale=self.crop.scale, finder=self._finder, whole_image=whole_image, rotate=rotate,
            network_turns=tells_way_up(self.network, check=True),
        )  # fmt: skip
        candidates: list[list[Candidate]] = []
        sizes = []
        for i, image in enumerate(images):
            photo, where = picture_of(image, channels), name_of(image) or f"picture {i}"
            sizes.append((photo.image.shape[1], photo.image.shape[0]))
            own = None if boxes is None else boxes[i]
            if own is not None and (np.ndim(own) == 0 or (len(own) and np.ndim(own[0]) == 0)):
                raise ValueError(f"{where}: boxes are {own!r:.80}, expected a list of them, as [[x0, y0, x1, y1]]")
            given = None if own is None else [checked_box(box, where) for box in own]
            candidates.append(candidates_in(photo, search, given, where))
        refuse_untrusted(least_confidence, self.network, flip)
        found = find_faces(
            self.network, candidates, refine, flip, batch_size, turn=rotate == "auto",
            least_confidence=least_confidence,
        )  # fmt: skip
        return [
            Faces(named(each.faces, name_of(image)), self.schema, size)
            for image, each, size in zip(images, found, sizes, strict=True)
        ]

    def predict_video(
        self, video: Path | str | int, config: TrackConfig | None = None, *, most: int = 0, flip: bool = False
    ) -> Generator[Faces, None, None]:
        """The faces of each frame of a video, one frame at a time, followed from frame to frame (`Face.track`).

        Args:
            video: a file, or a camera's number.
            config: how faces are followed; None: as `stylealign predict` does.
            most: follow so many of the largest; 0: all.
            flip: average with the answer on the mirrored face.

        Raises:
            UserError: a file that is no video, or one that is cut short, after its last frame.
        """
        most = whole(most, "most", 0)
        if isinstance(video, bool) or not isinstance(video, Path | str | int):
            raise ValueError(f"video is {video!r:.60}, expected a file's path or a camera's number")
        kind: Literal["camera", "video"] = "camera" if isinstance(video, int) else "video"
        opened = Video(Source(kind, Path(str(video)), str(video)))
        quick = None if self._own_finder else MtcnnFinder(quick=True)
        tracker = Tracker(self.network, self._finder, config or TrackConfig(), flip=flip, most=most, first_look=quick)
        with closing(opened.frames(Clock())) as frames:
            for frame in frames:
                size = frame.image.shape[1], frame.image.shape[0]
                yield Faces(named(tracker(frame.image, frame.time), opened.name), self.schema, size)
        problem = opened.problem()
        if problem:
            raise UserError(problem)


def load(model: Path | str | None = None, accelerator: str = "cpu", *, finder: Path | str | None = None) -> Detector:
    """Load a finished detector run (or a checkpoint folder), or a detector in the package by its name; None: `compact`.

    `finder`: a finished `train-finder` run, which finds faces instead of MTCNN.

    Raises UserError for a folder that holds none, another kind of model, or weights that changed.
    """
    if not isinstance(model, str | Path | None):
        raise ValueError(f"model is {model!r:.60}, expected a folder's path, or None for the one in the package")
    network = open_network(None if model is None else Path(model), accelerator)
    if finder is None:
        return Detector(network)
    from stylealign.predicting.trained_finder import trained_finder  # torch

    return Detector(network, trained_finder(Path(finder), accelerator))
