"""The Python API of translators: `StyleTranslator.load(...).translate(content, landmarks, style)`, one picture at a time.

>>> from stylealign import StyleTranslator
>>> translator = StyleTranslator.load("histogram")     # or a finished run's folder; nothing: the one that came with the package
>>> made = translator.translate(photo, landmarks, other, other_landmarks, size=64)
>>> made.crop.shape                                    # the face of `photo` in the look of `other`
(64, 64, 3)
>>> half = translator.translate(photo, landmarks, other, other_landmarks, strength=0.5, paste=True)
>>> half.picture.shape == photo.shape                  # the same, in its place in the photograph
True

A face is cut by the translator's own crop contract, which is applied by itself. Knows no command line.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from stylealign.api.detector import Detector, Image, picture_of
from stylealign.batches.batch import Batch, to_float
from stylealign.data.image import warp
from stylealign.errors import UserError
from stylealign.face import geometry
from stylealign.face.crop import CropConfig
from stylealign.face.schema import LandmarkSchema
from stylealign.predicting.finders import cascade_finder
from stylealign.predicting.orientation import view_of
from stylealign.predicting.predicted_face import largest
from stylealign.predicting.sources import Photo
from stylealign.styling.alignment import hull_distance, soft_inside
from stylealign.styling.arm import NUM_DRAWS
from stylealign.styling.arms import ARMS
from stylealign.styling.learned import SEAM
from stylealign.training.devices import pick_device
from stylealign.translators.base import LoadedTranslator
from stylealign.translators.loaded import load_translator
from stylealign.translators.swapping import encode_contents, mixed, pictures

SHIPPED = Path(__file__).parents[1] / "weights" / "translator"
FREE = ("histogram", "adain", "adain_pyramid", "fda", "relight")
"""Style arms that take their look from the other picture and need no training: names that `load` takes."""
FREE_CROP = CropConfig(size=128, scale=1.6)
MOST_PX = 1024  # side of the square that is rendered to be pasted: faces larger than that are enlarged
EDGE = 0.2  # of the square's side: how wide the pasted face fades into the photograph


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Translation:
    """One face in the style of another. Pictures are uint8 RGB."""

    crop: np.ndarray
    """(S, S, 3) the translated face"""
    landmarks: np.ndarray
    """(P, 2) float64 (x, y) px of the crop: the content's, which the translated face inherits"""
    crop_from_source: np.ndarray
    """(2, 3) affine from px of the content picture as stored to px of the crop"""
    content: np.ndarray
    """(S, S, 3) the content's own crop"""
    style: np.ndarray
    """(S, S, 3) the crop that gave the style"""
    style_found: Literal["given", "detector", "finder", "middle"]
    """where the style's face comes from: landmarks given; landmarks of the detector; a found box; none found: the picture's middle"""
    picture: np.ndarray | None = None
    """(H, W, 3) with `paste`: the content picture, as stored, with the translated face in its place"""


@dataclass(frozen=True, slots=True)
class _Face:
    """A face's place: cut at any size."""

    photo: Photo
    box: np.ndarray
    """px of the view (the picture as a person would hold it)"""
    landmarks: np.ndarray | None
    """(P, 2) px of the stored picture"""

    def affine(self, scale: float, size: int) -> np.ndarray:
        try:
            return geometry.compose(geometry.crop_affine(self.box, scale, size), self.photo.view_from_source)
        except ValueError as error:
            raise UserError(f"the face cannot be cut: {error}") from None

    def cut(self, scale: float, size: int) -> np.ndarray:
        return warp(self.photo.image, self.affine(scale, size), size)

    def points(self, scale: float, size: int) -> np.ndarray:
        """(P, 2) px of that crop."""
        assert self.landmarks is not None
        return geometry.apply(self.affine(scale, size), self.landmarks)


def model_path(translator: Path | str | None) -> Path:
    """The folder of a translator: the one given, else the one that came with the package."""
    if translator is not None:
        return Path(translator)
    if not (SHIPPED / "card.json").exists():
        raise UserError(
            "no translator came with this copy of stylealign: name one with --translator (a finished run folder, or one of "
            f"{', '.join(FREE)}, which need no training)"
        )
    return SHIPPED


def _tensor(pixels: np.ndarray) -> Tensor:
    return to_float(torch.from_numpy(pixels)[None])


def _points(points: np.ndarray) -> Tensor:
    return torch.from_numpy(points.astype(np.float32))[None]


def face_batch(pixels: np.ndarray, points: np.ndarray) -> Batch:
    """A face as a batch of one, plane by plane, as arms work."""
    return Batch(
        image=_tensor(pixels).contiguous(), landmarks=_points(points), visible=torch.ones(1, len(points), dtype=torch.bool),
        crop_from_source=torch.eye(2, 3, dtype=torch.float64)[None], index=torch.zeros(1, dtype=torch.int64), weight=torch.ones(1),
    )  # fmt: skip


class StyleTranslator:
    """A translator, or a free style arm, with its crop contract. Made by `StyleTranslator.load`."""

    def __init__(self, model: LoadedTranslator | str, detector: Detector | None = None):
        """`model`: an open translator, or one of FREE. `detector`: see `load`."""
        if isinstance(model, str) and model not in FREE:
            raise ValueError(f"no free style is called {model!r}; there are {', '.join(FREE)}")
        self.model = model
        if isinstance(model, LoadedTranslator) and detector is not None and detector.schema != model.schema:
            raise UserError(
                f"the detector finds landmarks of {detector.schema.name}, the translator was taught with {model.schema.name}: "
                "expected the same mark-up"
            )
        self.detector = detector
        self._finder = cascade_finder()

    @classmethod
    def load(
        cls, translator: Path | str | None = None, *, detector: Detector | None = None, accelerator: str = "cpu"
    ) -> "StyleTranslator":
        """Open a translator.

        Args:
            translator: folder of a finished `train-translator` run (or a checkpoint); or the name of a free style (`histogram`, `adain`,
                `adain_pyramid`, `fda`, `relight`; a folder called so is `./histogram`); not given: the one that came with the package.
            detector: finds landmarks where `translate` is given none (`stylealign.load(...)`).
            accelerator: auto, cpu, cuda or mps.

        Raises:
            UserError: a folder that holds no translator, or weights that changed; a detector of another mark-up.
        """
        if isinstance(translator, str) and translator in FREE:
            return cls(translator, detector)
        return cls(load_translator(model_path(translator), pick_device(accelerator)), detector)

    @property
    def schema(self) -> LandmarkSchema | None:
        """The mark-up that landmarks have to be of; None for free styles, which only cut by them."""
        return None if isinstance(self.model, str) else self.model.schema

    @property
    def crop(self) -> CropConfig:
        """How faces are cut for it; applied by itself."""
        return FREE_CROP if isinstance(self.model, str) else self.model.crop

    def translate(
        self,
        content: Image,
        landmarks: np.ndarray | Sequence[Sequence[float]] | None,
        style: Image,
        style_landmarks: np.ndarray | Sequence[Sequence[float]] | None = None,
        *,
        strength: float = 1.0,
        paste: bool = False,
        size: int | None = None,
    ) -> Translation:
        """The face of one picture in the style of another.

        `spade` and `vunet` draw the face anew from its landmarks, at the resolution they were taught at; more pixels only enlarge that.
        `bilateral` and the free styles change the photograph itself and keep its detail at any size.

        Args:
            content: (H, W, 3) uint8 RGB or (H, W) grey, or a file (whose EXIF orientation is heeded).
            landmarks: (P, 2) (x, y) px of the content picture as stored, of the mark-up `schema`; None: the detector's, of the largest face.
            style: the picture that gives the style, likewise.
            style_landmarks: its landmarks; None: the detector's; without a detector the box of the largest face that OpenCV's cascades find
                (regional style codes are then unused); where there is no face, the picture's middle square: any picture may give a style.
            strength: 0 the content's own style, 1 the other's. Translators draw with a style code that lies so far between the two codes
                (0 is then the content as the translator draws it, not the photograph); free styles blend the pixels (0 is the photograph).
            paste: also lay the face back into the content picture: the hull of its landmarks with a forehead, with a soft edge.
            size: side of the crop in px; None: the translator's own.

        Raises:
            UserError: a file that is no picture; no landmarks given and no face found in the content.
            ValueError: an array that is no picture, landmarks of another shape than the mark-up's, a strength outside of 0 to 1.
        """
        if not 0 <= strength <= 1:
            raise ValueError(f"strength is {strength}, expected 0 to 1")
        if size is not None and not 8 <= size <= 4096:
            raise ValueError(f"size is {size}, expected 8 to 4096")
        face, _ = self._face(content, landmarks, "content")
        donor, found = self._face(style, style_landmarks, "style")
        assert face.landmarks is not None
        scale, size = self.crop.scale, size or self.crop.size
        made, picture = self._made(face, donor, strength, size), None
        if paste:
            side = round(size / geometry.scale_of(face.affine(scale, size)))
            fitting = int(np.clip(side, self.crop.size, MOST_PX))
            picture = self._pasted(face, made if fitting == size else self._made(face, donor, strength, fitting))
        return Translation(
            crop=made, landmarks=face.points(scale, size), crop_from_source=face.affine(scale, size),
            content=face.cut(scale, size), style=donor.cut(scale, size), style_found=found, picture=picture,
        )  # fmt: skip

    def _face(
        self, image: Image, landmarks: np.ndarray | Sequence[Sequence[float]] | None, role: Literal["content", "style"]
    ) -> tuple[_Face, Literal["given", "detector", "finder", "middle"]]:
        photo = picture_of(image)
        name = str(image) if isinstance(image, Path | str) else f"the {role} picture"
        found: Literal["given", "detector"] = "given"
        if landmarks is None and self.detector is not None:
            faces = self.detector.predict(image)
            if faces:
                landmarks = largest(faces).landmarks
            found = "detector"
        if landmarks is None and role == "content":
            if self.detector is None:
                raise ValueError(
                    "no landmarks of the content picture and no detector to find them: expected one of the two"
                )
            raise UserError(f"{name}: no face found")
        if landmarks is not None:
            points = self._checked(landmarks, name)
            return _Face(photo, geometry.landmark_box(geometry.apply(photo.view_from_source, points)), points), found
        view = view_of(photo.image, photo.view_from_source)
        boxes = self._finder(view)
        if boxes:
            return _Face(photo, max(boxes, key=lambda f: float((f.box[2:] - f.box[:2]).max())).box, None), "finder"
        middle, half = (np.array(view.shape[1::-1]) - 1) / 2, min(view.shape[:2]) / self.crop.scale / 2
        return _Face(photo, np.concatenate([middle - half, middle + half]), None), "middle"

    def _checked(self, landmarks: np.ndarray | Sequence[Sequence[float]], name: str) -> np.ndarray:
        points = np.asarray(landmarks, dtype=np.float64)
        wanted = points.shape[:1] if self.schema is None else (self.schema.num_points,)
        if points.ndim != 2 or points.shape != (*wanted, 2):
            of = "" if self.schema is None else f" of {self.schema.name}"
            raise ValueError(
                f"{name}: landmarks of shape {points.shape}, expected {(*wanted, 2) if wanted else '(P, 2)'}{of}"
            )
        if not np.isfinite(points).all():
            raise ValueError(f"{name}: a landmark is not a finite number")
        return points

    def _made(self, face: _Face, donor: _Face, strength: float, size: int) -> np.ndarray:
        """(size, size, 3) the translated face."""
        scale = self.crop.scale
        if isinstance(self.model, str):
            points = face.points(scale, size)
            known = donor.landmarks is not None and len(donor.landmarks) == len(points)  # of the content's mark-up
            donor_points = donor.points(scale, size) if known else np.full_like(points, np.nan)
            batches = face_batch(face.cut(scale, size), points), face_batch(donor.cut(scale, size), donor_points)
            draws = torch.full((1, NUM_DRAWS), 0.5, dtype=torch.float64)
            arm = ARMS[self.model].arm
            assert arm is not None  # those of FREE need neither a mark-up nor a run
            return pictures(arm(*batches, torch.tensor([strength]), draws).image)[0]
        model, own = self.model, self.crop.size
        image, landmarks = _tensor(face.cut(scale, own)), _points(face.points(scale, own))
        donor_landmarks = None if donor.landmarks is None else _points(donor.points(scale, own))
        if donor_landmarks is None and model.style_needs_landmarks:
            raise UserError(
                "this translator's style encoder sees landmarks (posterior xy): the style picture needs them too"
            )
        style = mixed(
            model.encode_style(image, landmarks),
            model.encode_style(_tensor(donor.cut(scale, own)), donor_landmarks),
            strength,
        )
        features = encode_contents(model, landmarks, image)
        if size == own:
            return pictures(model.decode(features, style))[0]
        made = model.decode_on(features, style, _tensor(face.cut(scale, size)))
        if made is not None:
            return pictures(made)[0]
        drawn = pictures(model.decode(features, style))[0]
        return cv2.resize(drawn, (size, size), interpolation=cv2.INTER_CUBIC)

    def _pasted(self, face: _Face, made: np.ndarray) -> np.ndarray:
        """The stored picture with `made` in the face's place."""
        size = len(made)
        distance = hull_distance(_points(face.points(self.crop.scale, size)), size)
        pixel = torch.arange(size, dtype=torch.float32)
        border = torch.minimum(pixel, size - 1 - pixel) / max(1.0, SEAM * size)
        window = border.clamp(0, 1)[:, None] * border.clamp(
            0, 1
        )  # nothing at the square's border, however large the face is
        mask = (soft_inside(distance, EDGE * size)[0, 0] * window).numpy()
        home = geometry.invert(face.affine(self.crop.scale, size))
        height, width = face.photo.image.shape[:2]
        share = np.clip(warp(mask, home, (width, height)), 0, 1)[..., None]
        rows, columns = np.nonzero(share.max(axis=(1, 2)))[0], np.nonzero(share.max(axis=(0, 2)))[0]
        picture = face.photo.image.copy()
        if not len(rows):
            return picture
        where = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        laid, ground = warp(made, home, (width, height))[where].astype(np.float32), picture[where].astype(np.float32)
        picture[where] = np.round(ground + share[where] * (laid - ground)).clip(0, 255).astype(np.uint8)
        return picture
