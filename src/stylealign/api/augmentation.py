"""Style as an augmentation in anybody's PyTorch `Dataset`: an image goes in with its landmarks, and comes out in the
style of a random donor.

>>> from stylealign import StyleAugmentation
>>> restyle = StyleAugmentation(donors, "free")         # a data set folder, a FaceDataset, or pictures
>>> image = restyle(photo, landmarks)                   # a random donor's colours and light; the landmarks stay true
>>> image.shape == photo.shape and image.dtype == photo.dtype
True
>>> again = restyle(photo, landmarks, seed=(3, 14))     # say, epoch and index: the same donor in every run and worker
>>> bool((again == restyle(photo, landmarks, seed=(3, 14))).all())
True

Knows no detector, and not what becomes of the images.
"""

import dataclasses
import operator
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from stylealign.api.pictures import Channels, picture_of, pixels_like
from stylealign.api.tensors import face_batch
from stylealign.api.translator import model_path
from stylealign.api.values import numbers_of
from stylealign.batches.batch import to_uint8
from stylealign.batches.crops import box_of
from stylealign.data.dataset import FaceDataset
from stylealign.data.formats.files import pictures_below
from stylealign.data.image import read_image, warp
from stylealign.errors import UserError, counted
from stylealign.evaluation.trust import may_be_bent
from stylealign.face import geometry
from stylealign.face.crop import CropConfig
from stylealign.face.orientation import as_shown, shown_crop_affine
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema, get_schema
from stylealign.styling.arms import ARMS, names_without_run
from stylealign.styling.chain import PRESETS, ArmConfig, ChainConfig, Link, open_chain, restyle
from stylealign.styling.donors import OFFERED
from stylealign.styling.learned import open_translator_arm, run_bends_donors, translator_arm
from stylealign.training.plugins import load_plugins
from stylealign.translators.base import LoadedTranslator
from stylealign.translators.loaded import named_translator, open_translator
from stylealign.translators.warp.fit import descriptors, nearest, reference_shape

# How much wider than the face donors may be cut: beyond, there is little of a face to take a style from.
SCALES = (1.0, 3.0)
_STREAM = 23  # tells these random numbers from those drawn elsewhere from the same seed

Form = TypeVar("Form")
Points = TypeVar("Points")
Donors = FaceDataset | Path | str | Iterable[Path | str | FaceSample]


class StyleAugmentation:
    """A function of (image, landmarks, seed) that gives faces the style of random donors.

    It can be pickled, so it works in the workers of a `DataLoader`, forked or spawned; models are opened in each worker
    when they are first needed.
    """

    def __init__(
        self,
        donors: Donors,
        style: str | Path | ChainConfig = "free",
        *,
        schema: LandmarkSchema | str | None = None,
        prob: float = 1.0,
        strength: tuple[float, float] = (0.5, 1.0),
        seed: int = 0,
    ):
        """Prepare; nothing is decoded yet.

        Args:
            donors: faces that styles are taken from: a data set (its training split, where it has one), a folder of
                pictures, or a list of pictures and FaceSamples. Labels are not needed; a picture without any is taken
                to hold its face in its middle 60 %.
                `warp`, `warp_mixture` and `repaint` need them: each face gets the nearest in shape of 20 random donors,
                and stays as it is where even that one does not fit. They must not be faces that you test on.
            style: a preset of style arms (`none`, `free`, `free_jitter`, `mixture`, `warp_mixture`) or an arm's name;
                a folder of a finished `train-translator` run ("shipped": the translator that came with the package; the
                name of one that needs no training); or a ChainConfig.
            schema: mark-up (or its name) of the landmarks that will be given, for translators and `make_up`; None: that
                of the donors' data set.
            prob: share of the images that each link of the chain restyles.
            strength: range of each image's uniformly drawn strength (presets and translators; a ChainConfig has its
                own).
            seed: draws the donors, with the seed of each call.

        Raises:
            UserError: no donor, a style that does not exist, a mark-up that has to be known and is not.
            ValueError: a strength, probability or seed that is none.
        """
        load_plugins()
        self.faces: FaceDataset | tuple[FaceSample, ...] = _faces(donors)
        if not len(self.faces):
            raise UserError("style augmentation: no donor; expected a data set, a folder or a list of pictures")
        schema = get_schema(schema) if isinstance(schema, str) else schema
        self.schema = schema or (self.faces.schema if isinstance(self.faces, FaceDataset) else None)
        self.strength = strength
        if not (isinstance(strength, Sequence) and len(strength) == 2):
            raise ValueError(f"strength is {strength!r}, expected the lowest and the highest, such as (0.5, 1)")
        self.run = None if isinstance(style, ChainConfig) else _run(style)
        self.config = style if isinstance(style, ChainConfig) else _chain(style, strength)
        if not 0 <= prob <= 1:
            raise ValueError(f"prob is {prob}, expected 0 to 1")
        self.prob = prob
        (self.seed,) = _whole([seed])
        arms = [arm.kind for group in self.config.groups() for arm in group]
        if any(ARMS[kind].needs_run for kind in arms):
            raise UserError(
                "style augmentation: a chain with a translator in it; give the translator's folder as the style of an "
                "augmentation of its own"
            )
        needing = "a translator" if self.run else next((kind for kind in arms if ARMS[kind].needs_schema), None)
        if needing and self.schema is None:
            raise UserError(
                f"style augmentation: {needing} has to know the mark-up of the landmarks: expected a schema"
            )
        if self.run:  # what is wrong with it comes out here, not in a worker
            assert self.schema is not None
            open_translator_arm(self.run, CropConfig(), self.schema, torch.device("cpu"))
        self._by_fit = run_bends_donors(self.run) if self.run else any(ARMS[kind].donors_by_fit for kind in arms)
        if self._by_fit and not self._labelled():
            raise UserError(
                "style augmentation: donors are bent by their landmarks, and none of the "
                f"{counted(len(self.faces), 'donor')} has any; `stylealign pseudo-label` writes them"
            )
        self._chain: tuple[Link, ...] | None = None
        self._translator: LoadedTranslator | None = None

    def _labelled(self) -> bool:
        """Whether any donor has landmarks."""
        if isinstance(self.faces, FaceDataset):
            return any(self.faces.head(i)["labelled"] for i in range(len(self.faces)))
        return any(face.landmarks is not None for face in self.faces)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_chain": None, "_translator": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        load_plugins()  # of a worker that was spawned
        self.__dict__.update(state)

    def _links(self, crop: CropConfig) -> tuple[Link, ...]:
        """The arms, opened once in each process. `crop`: how a picture is cut round its face, which translators ask."""
        if self.run:
            named = named_translator(self.run) is not None  # which gets faces as they are cut
            if self._translator is None or (named and self._translator.crop != crop):
                assert self.schema is not None  # __init__ has seen to it
                self._translator = open_translator(self.run, self.schema, crop)
            arm = translator_arm(self._translator, crop)
            return (Link(("translator",), (arm,), (1.0,), (self.strength,), self.prob),)
        if self._chain is None:
            schema = self.schema or LandmarkSchema(name="unknown", num_points=1)  # no arm of this chain asks for it
            self._chain = open_chain(self.config, self.prob, crop, schema, torch.device("cpu"))
        return self._chain

    def __call__(
        self,
        image: Form,
        landmarks: np.ndarray | Tensor | Sequence[Sequence[float]],
        seed: int | Sequence[int] | None = None,
        channels: Channels = "rgb",
    ) -> Form:
        """The image in a random donor's style; landmarks stay where they are.

        Args:
            image: a Pillow image; or an array or a tensor, (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels,
                uint8 or floating point from 0 to 1. A crop of one face with some room round it serves best: style is a
                matter of the whole picture, and donors are cut as widely as it is.
            landmarks: (P, 2) (x, y) px of the image, pixel centres at integers; NaN where unlabelled.
            seed: of this image, one or more whole numbers >= 0 such as (epoch, index): the answer is then a function
                of the arguments alone. Not given: drawn from torch's global generator, which a DataLoader seeds
                differently in each worker and epoch, and the same way after the same `torch.manual_seed`.
            channels: the order in arrays and tensors; OpenCV's is "bgr".

        Returns:
            An image of the same kind, shape and type (brightness alone where it was grey).

        Raises:
            ValueError: another kind of image or shape of landmarks.
        """
        if isinstance(image, str | bytes | bytearray | memoryview | Path) or hasattr(image, "read"):
            raise ValueError(
                f"an image is expected to be open: a Pillow image, an array or a tensor; found {image!r:.60}"
            )
        pixels = picture_of(image, channels).image
        points = numbers_of(landmarks, "landmarks")
        if points.ndim != 2 or points.shape[1] != 2 or (self.schema and len(points) != self.schema.num_points):
            wanted = f"({self.schema.num_points}, 2) of {self.schema.name}" if self.schema else "(P, 2)"
            raise ValueError(f"landmarks of shape {points.shape}, expected {wanted}")
        if seed is None:
            key: tuple[int, ...] = (int(torch.randint(2**62, ())),)
        else:
            key = _whole(seed)
        rng = np.random.default_rng((self.seed, _STREAM, *key))
        donor = self._donor(points, rng)
        made = self._restyled(pixels, points, donor, int(rng.integers(2**62)))
        return cast(Form, pixels_like(image, made, channels))

    def on_pair(self, image: Form, landmarks: Points) -> tuple[Form, Points]:
        """(restyled image, the landmarks as they are), as transforms that are called with both pass them on.

        In torchvision's v2, say: `Compose([ToImage(), restyle.on_pair, ToDtype(...)])(image, landmarks)`.
        """
        return self(image, landmarks), landmarks  # type: ignore[arg-type]

    def on_sample(self, sample: Mapping[str, Any] | None = None, **values: Any) -> dict[str, Any]:
        """A sample by names, `image` and `keypoints` (or `landmarks`) among them -> the same, its image restyled.

        For pipelines that hand a dictionary, or its entries as keywords, from step to step, as albumentations does.

        Raises ValueError where one of the two is not there.
        """
        found = {**(sample or {}), **values}
        key = next((name for name in ("keypoints", "landmarks") if name in found), None)
        if "image" not in found or key is None:
            raise ValueError(f"a sample with {', '.join(found) or 'nothing'} in it: expected image and keypoints")
        return {**found, "image": self(found["image"], found[key])}

    def _donor(self, points: np.ndarray, rng: np.random.Generator) -> FaceSample:
        """A random donor; where the style bends it, the nearest in shape of several."""
        if not self._by_fit:
            return self.faces[int(rng.integers(len(self.faces)))]
        assert self.schema is not None
        known = np.isfinite(points).all(axis=1)
        offered = [_bendable(self.faces[int(i)], known) for i in rng.integers(len(self.faces), size=OFFERED)]
        shapes = np.full((len(offered), self.schema.num_points, 2), np.nan)
        for shape, face in zip(shapes, offered, strict=True):
            if face.landmarks is not None:
                shape[:] = as_shown(face.labels, face.orientation)
        reference = reference_shape(np.concatenate([points[None], shapes]))
        wanted, found = (descriptors(one, reference, self.schema) for one in (points[None], shapes))
        return offered[int(nearest(found[:, None], wanted)[0])]

    def _restyled(self, pixels: np.ndarray, points: np.ndarray, donor: FaceSample, seed: int) -> np.ndarray:
        height, width = pixels.shape[:2]
        side = max(height, width)  # arms work on squares: the picture in the middle of one, its edges replicated
        left, top = (side - width) // 2, (side - height) // 2
        square = pixels
        if height != width:
            square = np.pad(pixels, ((top, side - height - top), (left, side - width - left), (0, 0)), mode="edge")
        points = points + np.array([left, top])
        known = points[np.isfinite(points).all(axis=1)]
        longer = float(np.ptp(known, axis=0).max()) if len(known) > 1 else 0.0
        scale = float(np.clip(side / longer, *SCALES)) if longer > 0 else 1.6
        links = self._links(CropConfig(size=min(max(side, 8), 4096), scale=scale))
        if not links:
            return pixels.copy()
        theirs, their_points = _cut(donor, scale, side, len(points))
        content, other = face_batch(square, points), face_batch(theirs, their_points)
        found = restyle(content, other, links, torch.Generator().manual_seed(seed))
        image = to_uint8(found.image)[0].numpy()
        return np.ascontiguousarray(image[top : top + height, left : left + width])


def _bendable(face: FaceSample, known: np.ndarray) -> FaceSample:
    """The face, without landmarks where those are not to be trusted, are of another number than `known` (P,), or lack
    one that is known of who gets its style: that one would lie anywhere."""
    there = face.landmarks is not None and len(face.landmarks) == len(known)
    if there and may_be_bent(face.trust) and face.labelled_points[known].all():
        return face
    return dataclasses.replace(face, landmarks=None, visible=None, point_trust=None)


def _faces(donors: Donors) -> FaceDataset | tuple[FaceSample, ...]:
    if isinstance(donors, Path | str):
        folder = Path(donors)
        if folder.is_dir() and not (folder / "dataset.yaml").exists() and (found := sorted(pictures_below(folder))):
            return tuple(FaceSample(id=str(path), image=path) for path in found)
        return FaceDataset.open(folder).training_faces()
    if isinstance(donors, FaceDataset):
        return donors
    if not isinstance(donors, Iterable):
        raise ValueError(f"donors: found an object of type {type(donors).__name__}, expected a list of pictures")
    donors = tuple(donors)  # once: what is made as it is asked for is then gone
    if other := next((type(d).__name__ for d in donors if not isinstance(d, FaceSample | Path | str)), None):
        raise ValueError(f"donors: found an object of type {other}, expected paths of pictures, or FaceSamples")
    return tuple(d if isinstance(d, FaceSample) else FaceSample(id=str(d), image=Path(d)) for d in donors)


def _run(style: str | Path) -> Path | None:
    """The folder of a translator that a style names (or an untrained one's name); None for a preset or an arm."""
    if isinstance(style, str) and style in (*PRESETS, *names_without_run()):
        return None
    if isinstance(style, str) and named_translator(style):
        return Path(style)
    run = model_path(None if style == "shipped" else style)
    if not run.exists():
        known = ", ".join([*PRESETS, *names_without_run()])
        raise UserError(f"style augmentation: no style and no run folder is called {str(style)!r}; styles are {known}")
    return run


def _whole(seed: Any) -> tuple[int, ...]:
    """One whole number, of whatever library, or several. Raises ValueError for others."""
    try:
        numbers = tuple(operator.index(s) for s in (seed if isinstance(seed, Sequence | np.ndarray) else (seed,)))
    except TypeError:
        raise ValueError(f"seed is {seed!r:.60}, expected a whole number, or several") from None
    if any(number < 0 for number in numbers):
        raise ValueError(f"seed is {seed!r:.60}, expected 0 or more")
    return numbers


def _chain(style: str | Path, strength: tuple[float, float]) -> ChainConfig:
    """The chain of arms that a name stands for, of that strength; an empty one for a translator's folder."""
    if isinstance(style, str) and style in PRESETS:
        return ChainConfig(arms=tuple(dataclasses.replace(arm, strength=strength) for arm in PRESETS[style]))
    if isinstance(style, str) and style in names_without_run():
        return ChainConfig(arms=(ArmConfig(kind=style, strength=strength),))
    low, high = strength
    if not 0 <= low <= high <= 1:
        raise ValueError(f"strength {low} to {high}: expected a range in 0 to 1")
    return ChainConfig()


def _cut(donor: FaceSample, scale: float, side: int, num_points: int) -> tuple[np.ndarray, np.ndarray]:
    """A donor's picture (side, side, 3) with its face as large as the content's, and its landmarks (P, 2) px of that.

    NaN where the donor has not `num_points` landmarks, and where one of them is no label.
    """
    affine = shown_crop_affine(donor.orientation, box_of(donor, "landmarks"), scale, side)
    pixels = warp(read_image(donor.image), affine, side)
    if donor.landmarks is None or len(donor.landmarks) != num_points:
        return pixels, np.full((num_points, 2), np.nan)
    return pixels, geometry.apply(affine, donor.labels)
