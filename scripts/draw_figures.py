"""Draw the pictures in docs/images from drawn faces (never from photographs): python scripts/draw_figures.py"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from stylealign import StyleTranslator, load
from stylealign.batches.augment import AUGMENTATIONS, apply
from stylealign.batches.augment.operation import NUM_DRAWS
from stylealign.batches.batch import Batch, to_float, to_uint8
from stylealign.data.image import write_image
from stylealign.evaluation.draw import contact_sheet, draw_landmarks, style_sheet
from stylealign.face.geometry import landmark_box
from stylealign.face.schema import IBUG68, WFLW98, convert
from stylealign.jobs.draw_faces import DrawFaces
from stylealign.toyfaces import draw_face, draw_swap_sheet, face_of, random_structure, random_style
from stylealign.toyfaces.side_view import side_view
from stylealign.translators.warp.fit import WarpConfig, fitting_donors

FOLDER = Path(__file__).parents[1] / "docs" / "images"
SIZE = 144


def drawn(i: int) -> tuple[np.ndarray, np.ndarray]:
    """(picture, 68 landmarks) of a drawn face."""
    structure, style, _ = face_of(DrawFaces(out=Path("drawn"), count=60), i)
    image, landmarks, _ = draw_face(structure, style, 192)
    return image, convert(landmarks, "wflw98", "ibug68")


def translations() -> np.ndarray:
    """Drawn faces in each other's style by the translator in the package, landmarks by the detector in the package.

    A row for each face, a column for each face that gives a style.
    """
    detector, translator = load(), StyleTranslator.load()
    assert translator.schema is not None
    faces = []
    for i in (10, 0, 3, 15):
        image, landmarks = drawn(i)
        (found,) = detector.predict(image, boxes=[landmark_box(landmarks)])
        faces.append((image, found.landmarks))
    rows = [[translator.translate(*a, *b, size=SIZE) for b in faces] for a in faces]
    left = [draw_landmarks(row[0].content, row[0].landmarks, translator.schema) for row in rows]
    return style_sheet(left, [made.style for made in rows[0]], [[made.crop for made in row] for row in rows])


def bent(contents: tuple[int, ...] = (0, 3), donors: int = 4, offered: int = 60, size: int = 128) -> np.ndarray:
    """Drawn faces by the translator `warp`: two rows for each face, its donors and, beside it, what becomes of them.

    The donors are the nearest in shape of `offered` drawn faces, as `generate` takes them; landmarks are the drawings'.
    """
    faces = [drawn(i) for i in range(offered)]
    landmarks = np.stack([points for _, points in faces]).astype(np.float64)
    rows = np.array(contents)
    found = fitting_donors(landmarks[rows], landmarks, donors, 0, rows, IBUG68, WarpConfig(offered=offered))
    translator, tiles = StyleTranslator.load("warp"), []
    for i, chosen in zip(contents, found.donors, strict=True):
        made = [translator.translate(*faces[i], *faces[int(j)], size=size) for j in chosen if j >= 0]
        white = np.full((size, size, 3), 255, np.uint8)
        content = draw_landmarks(made[0].content, made[0].landmarks, IBUG68)
        tiles += [white, *(m.style for m in made), content, *(m.crop for m in made)]
    return contact_sheet(tiles, 1 + donors)


def turned(faces: tuple[int, ...] = (4, 1), size: int = 144) -> np.ndarray:
    """Drawn faces from the side: a row that `turn-heads` would make of the frontal picture, above the head drawn so."""
    rows, step = [], (0.0, 20.0, 40.0, 60.0, 75.0)
    for i in faces:
        structure = replace(random_structure(np.random.default_rng((3, i)), max_yaw=1), yaw=0.0, pitch=0.0, roll=0.0)
        style = replace(random_style(np.random.default_rng((4, i)), shift="studio"), glasses="none", occluder="none")
        frontal, landmarks, _ = draw_face(structure, style, size)
        views = [side_view(frontal, landmarks, WFLW98, yaw, np.eye(2, 3), size) for yaw in step]
        truths = [draw_face(replace(structure, yaw=yaw), style, size) for yaw in step]
        rows += [draw_landmarks(view.image, view.landmarks, WFLW98) for view in views]
        rows += [draw_landmarks(image, points, WFLW98) for image, points, _ in truths]
    return contact_sheet(rows, len(step))


def augmentations(size: int = 60, columns: int = 6) -> np.ndarray:
    """A drawn face under every operation of the table, at strength 0, a half and 1; landmarks that are hidden red."""
    structure, style, _ = face_of(DrawFaces(out=Path("drawn"), count=16), 10)
    image, landmarks, visible = draw_face(structure, style, 2 * size)
    face = Batch(
        image=to_float(torch.from_numpy(image[None])), landmarks=torch.from_numpy(landmarks[None]),
        visible=torch.from_numpy(visible[None]), crop_from_source=torch.eye(2, 3, dtype=torch.float64)[None],
        index=torch.zeros(1, dtype=torch.int64), weight=torch.ones(1),
    )  # fmt: skip
    draws = torch.rand(1, NUM_DRAWS, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    rows = []
    for name, entry in AUGMENTATIONS.items():
        tiles = []
        for strength in (0.0, 0.5, 1.0):
            found = apply(name, face, torch.tensor([strength]), draws, WFLW98)
            tile = to_uint8(found.image)[0].numpy().copy()
            for (x, y), seen in zip(found.landmarks[0].round().int().tolist(), found.visible[0].tolist(), strict=True):
                shown = 0 <= x < 2 * size - 1 and 0 <= y < 2 * size - 1
                if shown and (entry.kind == "geometric" or not seen):
                    tile[y : y + 2, x : x + 2] = (0, 255, 160) if seen else (255, 0, 0)
            tiles.append(tile.reshape(size, 2, size, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8))
        rows.append(np.concatenate(tiles, axis=1))
    return contact_sheet(rows, columns, list(AUGMENTATIONS))


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    structures = [random_structure(np.random.default_rng((1, i))) for i in range(6)]
    styles = [random_style(np.random.default_rng((2, i))) for i in (0, 1, 3, 5)]
    write_image(FOLDER / "styles.png", draw_swap_sheet(structures, styles, 112))
    write_image(FOLDER / "augmentations.jpg", augmentations(), quality=80)
    write_image(FOLDER / "turned.png", turned())
    write_image(FOLDER / "translate.png", translations())
    write_image(FOLDER / "models.png", bent())  # the first screen of README.md
