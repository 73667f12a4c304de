"""The Python API of translators: `StyleTranslator.load(...).translate(content, landmarks, style)`.

>>> from stylealign import StyleTranslator
>>> translator = StyleTranslator.load("histogram")     # or a finished run's folder; nothing: the shipped translator
>>> made = translator.translate(photo, landmarks, other, other_landmarks, size=64)
>>> made.crop.shape                                    # the face of `photo` in the style of `other`
(64, 64, 3)
>>> half = translator.translate(photo, landmarks, other, other_landmarks, strength=0.5, paste=True)
>>> half.picture.shape == photo.shape                  # the same, in its place in the photograph
True

A face is cut as the translator's crop contract says. Knows no command line.
"""

import dataclasses
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import torch

from stylealign.api.detector import Detector
from stylealign.api.pictures import Channels, Image, name_of, picture_of
from stylealign.api.placed_face import PlacedFace, in_its_look, pasted, placed_by_landmarks
from stylealign.api.tensors import face_batch, image_tensor, points_tensor
from stylealign.api.values import numbers_of
from stylealign.data.packaged import TRANSLATOR
from stylealign.errors import UserError, counted
from stylealign.face import geometry
from stylealign.face.crop import CropConfig
from stylealign.face.orientation import size_of_view
from stylealign.face.schema import SCHEMAS, LandmarkSchema
from stylealign.predicting.candidates import Candidate, Search, candidates_in
from stylealign.predicting.finders import MtcnnFinder
from stylealign.predicting.predicted_face import largest
from stylealign.predicting.sources import Photo
from stylealign.styling.arm import NUM_DRAWS
from stylealign.styling.arms import ARMS, names_of_looks
from stylealign.training.devices import training_device
from stylealign.training.plugins import load_plugins
from stylealign.translators import TRANSLATORS, untrained_names
from stylealign.translators.base import LoadedTranslator
from stylealign.translators.loaded import load_translator, open_untrained
from stylealign.translators.swapping import encode_contents, mixed, pictures
from stylealign.translators.warp.field import bend
from stylealign.translators.warp.fit import Faults, WarpConfig, faults
from stylealign.translators.warp.openings import openings_of

FREE_CROP = CropConfig(size=128, scale=1.6)
_ROOM = 1.5  # side of the donor's crop over that of the face's: a turned head brings real background along
MOST_PX = 1024  # side of the square that is rendered to be pasted: faces larger than that are enlarged

Landmarks = np.ndarray | torch.Tensor | Sequence[Sequence[float]]
FoundStyle = Literal["given", "detector", "finder", "middle"]


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
    style_found: FoundStyle
    """how the style's face was found: by given landmarks or the detector's, by a finder's box, or not at all, so that
    the picture's middle was taken"""
    doubt: str = ""
    """why the style's face, bent onto the content's, may look wrong: `generate` would take another one"""
    mirrored: bool = False
    """whether the style's face was mirrored before it was bent, which fits better: of heads turned to other sides"""
    picture: np.ndarray | None = None
    """(H, W, 3) with `paste`: the content picture, as stored, in the new look or with the new face in its place"""


def model_path(translator: Path | str | None) -> Path:
    """The folder of a translator: the one given, else the one that came with the package."""
    if translator is not None:
        return Path(translator)
    if not (TRANSLATOR / "card.json").exists():
        raise UserError(
            "no translator came with this copy of stylealign: name one with --translator (a finished run folder, "
            f"or one of {', '.join(names_without_run_folder())}, which need no training)"
        )
    return TRANSLATOR


def names_without_run_folder() -> list[str]:
    """What needs no training: the free styles, and the translators that have nothing to learn."""
    return [*names_of_looks(), *untrained_names()]


def _whole_side(size: Any) -> int:
    try:
        side = operator.index(size)
    except TypeError:
        side = -1
    if not 8 <= side <= 4096:
        raise ValueError(f"size is {size!r:.60}, expected a whole number from 8 to 4096")
    return side


def _middle(photo: Photo, scale: float) -> Candidate:
    """The square in the middle of an upright picture, as large as fits, as the crop of that scale."""
    width, height = size_of_view(photo.view_from_source, photo.image.shape[1], photo.image.shape[0])
    middle, half = (np.array([width, height]) - 1) / 2, min(width, height) / scale / 2
    return Candidate(photo, np.concatenate([middle - half, middle + half]))


def _restyle(name: str, face: PlacedFace, donor: PlacedFace, strength: float, size: int) -> np.ndarray:
    """(size, size, 3) the face in the donor's style, by the free style of that name."""
    scale = FREE_CROP.scale
    points = face.points(scale, size)
    known = donor.landmarks is not None and len(donor.landmarks) == len(points)  # of the content's mark-up
    donor_points = donor.points(scale, size) if known else np.full_like(points, np.nan)
    batches = face_batch(face.cut(scale, size), points), face_batch(donor.cut(scale, size), donor_points)
    draws = torch.full((1, NUM_DRAWS), 0.5, dtype=torch.float64)
    arm = ARMS[name].arm
    assert arm is not None  # those of `names_of_looks` need neither a mark-up nor a run
    return pictures(arm(*batches, torch.tensor([strength]), draws).image)[0]


# For looking at two given faces: nobody learns from the picture, and no other donor can be taken.
_LOOKED_AT, _GENERATED = WarpConfig(stretched=0.15, apart=0.05), WarpConfig()


class _Made(NamedTuple):
    picture: np.ndarray
    """(size, size, 3)"""
    doubt: str = ""
    mirrored: bool = False


def _bend(model: LoadedTranslator, face: PlacedFace, donor: PlacedFace, strength: float, size: int) -> _Made:
    """The donor's photograph on the face's landmarks, by a translator that bends donors: mirrored where `generate`
    would refuse it as it is, and it then fits better."""
    scale, own, schema, name = model.crop.scale, model.crop.size, model.schema, model.card.get("model")
    points = face.points(scale, own)
    if donor.landmarks is None or len(donor.landmarks) != len(points):
        raise UserError(f"translator '{name}' bends the style's photograph by its landmarks: no such face found in it")
    room = round(_ROOM * size)
    landmarks, theirs = points_tensor(points), donor.points(scale * room / size, room)

    def found_of(places: np.ndarray) -> Faults:
        known = points_tensor(places)
        return faults(bend(landmarks, known), landmarks, known, openings_of(schema), _LOOKED_AT.stretch)

    found, mirrored = found_of(theirs), False
    if bool(found.refused(_GENERATED)) and schema.flip_pairs:
        others = geometry.mirrored_back(theirs, room, schema.flip_permutation)
        of_others = found_of(others)
        if _unfit(of_others) < _unfit(found):
            found, theirs, mirrored = of_others, others, True
    if bool(found.refused(_LOOKED_AT)):
        raise UserError(f"the two faces cannot be bent into each other: {found.reason(_LOOKED_AT)}")
    doubt = found.reason(_GENERATED) if bool(found.refused(_GENERATED)) else ""
    image, looks = image_tensor(face.cut(scale, size)), image_tensor(donor.cut(scale * room / size, room))
    style = model.encode_style(looks.flip(-1) if mirrored else looks, points_tensor(theirs))
    made = model.decode_on(encode_contents(model, landmarks, image), style, image)
    assert made is not None  # whoever bends a photograph does so at any size
    return _Made(pictures(torch.lerp(image, made.to(image), strength))[0], doubt, mirrored)


def _unfit(found: Faults) -> tuple[bool, bool]:
    """Less is better: whether nobody would look at the picture, and whether `generate` would refuse the pair."""
    return bool(found.refused(_LOOKED_AT)), bool(found.refused(_GENERATED))


def _draw(model: LoadedTranslator, face: PlacedFace, donor: PlacedFace, strength: float, size: int) -> np.ndarray:
    """(size, size, 3) the face in the donor's style, by a trained translator."""
    scale, own = model.crop.scale, model.crop.size
    image, landmarks = image_tensor(face.cut(scale, own)), points_tensor(face.points(scale, own))
    donor_landmarks = None if donor.landmarks is None else points_tensor(donor.points(scale, own))
    if donor_landmarks is None and model.style_needs_landmarks:
        raise UserError(
            "this translator's style encoder sees landmarks (posterior xy): the style picture needs them too"
        )
    own_style = model.encode_style(image, landmarks)
    style = mixed(own_style, model.encode_style(image_tensor(donor.cut(scale, own)), donor_landmarks), strength)
    features = encode_contents(model, landmarks, image)
    if size != own:
        larger = model.decode_on(features, style, image_tensor(face.cut(scale, size)))
        if larger is not None:
            return pictures(larger)[0]
    drawn = pictures(model.decode(features, style))[0]
    return drawn if size == own else cv2.resize(drawn, (size, size), interpolation=cv2.INTER_CUBIC)


def _schema_of(points: int) -> LandmarkSchema:
    """The mark-up of so many points; where none is known, one in which nothing has a name."""
    known = (schema for schema in SCHEMAS.values() if schema.num_points == points)
    return next(known, LandmarkSchema(name=counted(points, "point"), num_points=points))


class StyleTranslator:
    """A translator, or a free style arm, with its crop contract. Made by `StyleTranslator.load`."""

    def __init__(self, model: LoadedTranslator | str, detector: Detector | None = None):
        """`model`: an open translator, or one of `names_without_run_folder()`. `detector`: see `load`."""
        if isinstance(model, str) and model not in names_without_run_folder():
            raise ValueError(f"no free style is called {model!r}; there are {', '.join(names_without_run_folder())}")
        self.model = model
        if isinstance(model, LoadedTranslator) and detector is not None and detector.schema != model.schema:
            raise UserError(
                f"the detector finds landmarks of {detector.schema.name}, the translator was trained with "
                f"{model.schema.name}: expected the same mark-up"
            )
        self.detector = detector
        self._finder = MtcnnFinder()

    @classmethod
    def load(
        cls, translator: Path | str | None = None, *, detector: Detector | None = None, accelerator: str = "cpu"
    ) -> "StyleTranslator":
        """Open a translator.

        Args:
            translator: folder of a finished `train-translator` run (or a checkpoint); or the name of a free style
                (`histogram`, `adain`, `adain_pyramid`, `fda`, `relight`; a folder called so is `./histogram`) or of a
                translator that needs no training (`warp`); None: the one that came with the package.
            detector: finds landmarks where `translate` is given none (`stylealign.load(...)`).
            accelerator: auto, cpu, cuda or mps.

        Raises:
            UserError: a folder that holds no translator, or weights that changed; a detector of another mark-up.
        """
        load_plugins()
        if isinstance(translator, str) and translator in names_without_run_folder():
            return cls(translator, detector)
        return cls(load_translator(model_path(translator), training_device(accelerator)), detector)

    @property
    def schema(self) -> LandmarkSchema | None:
        """The mark-up that landmarks have to be of; None for free styles, which only cut by them."""
        return None if isinstance(self.model, str) else self.model.schema

    @property
    def keeps(self) -> Literal["photo", "structure"]:
        """What of the content is shown: its own photograph in another look, or another picture in its structure."""
        if isinstance(self.model, str):
            keeps_photograph = self.model not in untrained_names() or TRANSLATORS[self.model].loaded.keeps_photograph
        else:
            keeps_photograph = self.model.keeps_photograph
        return "photo" if keeps_photograph else "structure"

    @property
    def crop(self) -> CropConfig:
        """How faces are cut for it; applied by itself."""
        return FREE_CROP if isinstance(self.model, str) else self.model.crop

    def translate(
        self,
        content: Image,
        landmarks: Landmarks | None,
        style: Image,
        style_landmarks: Landmarks | None = None,
        *,
        strength: float = 1.0,
        paste: bool = False,
        size: int | None = None,
        channels: Channels = "rgb",
    ) -> Translation:
        """The face of one picture in the style of another.

        `spade` and `vunet` draw the face anew from its landmarks, at the resolution they were trained at; more pixels
        only enlarge that. `bilateral` and the free styles change the photograph itself and keep its detail at any
        size; `warp` and `repaint` bend the style's photograph onto the content's landmarks, also at any size (what
        `repaint` paints anew is as soft as its own size).

        Args:
            content: a picture in any form that `Detector.predict` takes.
            landmarks: (P, 2) (x, y) px of the content picture as stored, of the mark-up `schema`; None: the
                detector's, of the largest face.
            style: the picture that gives the style, likewise.
            style_landmarks: its landmarks; None: the detector's. Without a detector, the box of the largest face that
                the face finder finds is taken (regional style codes are then unused), and where there is no face, the
                picture's middle square: any picture may give a style.
            strength: 0 the content's own style, 1 the other's. Translators draw with a style code that lies so far
                between the two codes (0 is then the content as the translator draws it, not the photograph); free
                styles blend the pixels (0 is the photograph).
            paste: also make a whole photograph: where the content's photograph is kept, all of it in the new look;
                else with the new face in its place, blended by its gradients.
            size: side of the crop in px; None: the translator's own.
            channels: the order in both pictures where they are arrays; OpenCV's is "bgr". The answer is RGB.

        Raises:
            UserError: a file that is no picture; no landmarks given and no face found in the content.
            ValueError: an array that is no picture, landmarks of another shape than the mark-up's, a strength outside
                of 0 to 1.
        """
        if not 0 <= strength <= 1:
            raise ValueError(f"strength is {strength}, expected 0 to 1")
        if size is not None:
            size = _whole_side(size)
        face, _ = self._placed(content, landmarks, "content", channels)
        donor, found = self._placed(style, style_landmarks, "style", channels)
        scale, size = self.crop.scale, size or self.crop.size
        made, picture = self._made(face, donor, strength, size), None
        if paste:
            side = round(size / geometry.scale_of(face.affine(scale, size)))
            fitting = int(np.clip(side, self.crop.size, MOST_PX))
            fitted = (made if fitting == size else self._made(face, donor, strength, fitting)).picture
            if self.keeps == "photo":
                picture = in_its_look(face, face.cut(scale, fitting), fitted, scale)
            else:
                picture = pasted(face, fitted, scale)
        return Translation(
            crop=made.picture, landmarks=face.points(scale, size), crop_from_source=face.affine(scale, size),
            content=face.cut(scale, size), style=donor.cut(scale, size), style_found=found, picture=picture,
            doubt=made.doubt, mirrored=made.mirrored,
        )  # fmt: skip

    def _placed(
        self, image: Image, landmarks: Landmarks | None, role: str, channels: Channels
    ) -> tuple[PlacedFace, FoundStyle]:
        """Where the face of a picture is, and how that was found; `role` names an array in messages."""
        photo, name = picture_of(image, channels), name_of(image) or f"the {role} picture"
        found: FoundStyle = "given"
        if landmarks is None and self.detector is not None:
            faces = self.detector.predict(photo)
            landmarks, found = (largest(faces).landmarks if faces else None), "detector"
        if landmarks is not None:
            return placed_by_landmarks(photo, self._checked(landmarks, name, photo.image)), found
        if role == "content":
            if self.detector is None:
                raise ValueError(
                    "no landmarks of the content picture and no detector to find them: expected one of the two"
                )
            raise UserError(f"{name}: no face found")
        candidates = candidates_in(photo, Search(crop_scale=self.crop.scale, finder=self._finder))
        if candidates:
            return PlacedFace(max(candidates, key=lambda each: each.side), None), "finder"
        return PlacedFace(_middle(photo, self.crop.scale), None), "middle"

    def _checked(self, landmarks: Landmarks, name: str, pixels: np.ndarray) -> np.ndarray:
        """(P, 2) float64. Raises ValueError for another shape than the mark-up's, for what is no number, and for a face
        outside of the picture."""
        points = numbers_of(landmarks, f"{name}: landmarks")
        wanted = points.shape[:1] if self.schema is None else (self.schema.num_points,)
        if points.ndim != 2 or points.shape != (*wanted, 2):
            of = "" if self.schema is None else f" of {self.schema.name}"
            raise ValueError(
                f"{name}: landmarks of shape {points.shape}, expected {(*wanted, 2) if wanted else '(P, 2)'}{of}"
            )
        if not len(points):
            raise ValueError(f"{name}: no landmark, expected some")
        if not np.isfinite(points).all():
            raise ValueError(f"{name}: a landmark is not a finite number")
        height, width = pixels.shape[:2]
        low, high = points.min(axis=0), points.max(axis=0)
        if (high < 0).any() or low[0] > width - 1 or low[1] > height - 1 or (high - low > 4 * max(width, height)).any():
            raise ValueError(
                f"{name}: landmarks from ({low[0]:g}, {low[1]:g}) to ({high[0]:g}, {high[1]:g}), expected them in the "
                f"{width} x {height} picture"
            )
        return points

    def _made(self, face: PlacedFace, donor: PlacedFace, strength: float, size: int) -> _Made:
        """The face in the donor's style."""
        model = self.model
        if isinstance(model, str):
            if model not in untrained_names():
                return _Made(_restyle(model, face, donor, strength, size))
            assert face.landmarks is not None
            schema = self.detector.schema if self.detector else _schema_of(len(face.landmarks))
            model = open_untrained(model, schema, dataclasses.replace(FREE_CROP, size=size))
        if model.bends_donor:
            return _bend(model, face, donor, strength, size)
        return _Made(_draw(model, face, donor, strength, size))
