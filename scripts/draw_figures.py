"""Draw the pictures in docs/images from drawn faces (never from photographs): python scripts/draw_figures.py"""

from pathlib import Path

import numpy as np

from stylealign import StyleTranslator, load
from stylealign.data.image import write_image
from stylealign.evaluation.draw import draw_landmarks, style_sheet
from stylealign.face.geometry import landmark_box
from stylealign.face.schema import convert
from stylealign.jobs.draw_faces import DrawFaces
from stylealign.toyfaces import draw_face, draw_swap_sheet, face_of, random_structure, random_style

FOLDER = Path(__file__).parents[1] / "docs" / "images"
SIZE = 144


def drawn(i: int) -> tuple[np.ndarray, np.ndarray]:
    """(picture, 68 landmarks) of a drawn face."""
    structure, style, _ = face_of(DrawFaces(out=Path("drawn"), count=16), i)
    image, landmarks, _ = draw_face(structure, style, 192)
    return image, convert(landmarks, "wflw98", "ibug68")


def translations(contents: int = 4) -> np.ndarray:
    """Drawn faces in each other's style by the translator in the package, landmarks by the detector in the package.

    A row for each of the first so many faces, a column for each face that gives a style.
    """
    detector, translator = load(), StyleTranslator.load()
    assert translator.schema is not None
    faces = []
    for i in (10, 0, 3, 15):
        image, landmarks = drawn(i)
        (found,) = detector.predict(image, boxes=[landmark_box(landmarks)])
        faces.append((image, found.landmarks))
    rows = [[translator.translate(*a, *b, size=SIZE) for b in faces] for a in faces[:contents]]
    left = [draw_landmarks(row[0].content, row[0].landmarks, translator.schema) for row in rows]
    return style_sheet(left, [made.style for made in rows[0]], [[made.crop for made in row] for row in rows])


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    structures = [random_structure(np.random.default_rng((1, i))) for i in range(6)]
    styles = [random_style(np.random.default_rng((2, i))) for i in (0, 1, 3, 5)]
    write_image(FOLDER / "styles.png", draw_swap_sheet(structures, styles, 112))
    write_image(FOLDER / "translate.png", translations())
    write_image(FOLDER / "models.png", translations(2))  # the first screen of README.md
