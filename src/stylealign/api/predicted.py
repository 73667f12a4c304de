"""The faces of a picture or a frame, as the values of other libraries, which are imported when they are asked for."""

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from stylealign.data.formats.coco import coco_content
from stylealign.errors import UserError
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema
from stylealign.predicting.predicted_face import Face


def _imported(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"this needs the package {name}, which is not installed: pip install {name}") from None


class Faces(list[Face]):
    """The faces of one picture or frame, or of one video's: a list that knows the mark-up of its landmarks."""

    def __init__(self, faces: Iterable[Face], schema: LandmarkSchema, size: tuple[int, int]):
        """`size`: width and height of their picture, px."""
        super().__init__(faces)
        self.schema, self.size = schema, size

    def to_supervision(self) -> Any:
        """`supervision.KeyPoints`: `xy` (N, P, 2), and `confidence` (N, P) where every face has one."""
        points, sure = self._arrays()
        made = _imported("supervision").KeyPoints
        values: dict[str, Any] = {"xy": points.astype(np.float32)}
        if sure is not None:
            renamed = "keypoint_confidence" in inspect.signature(made).parameters  # in 0.29; the old name goes in 0.32
            values["keypoint_confidence" if renamed else "confidence"] = sure.astype(np.float32)
        return made(**values)

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` with a row for each landmark.

        Columns: image, face, frame, time, track, point, x, y, confidence; what is not known is missing (NaN, None).
        """
        rows = [
            {
                "image": face.image,
                "face": face.number,
                "frame": face.frame,
                "time": face.time,
                "track": face.track,
                "point": k,
                "x": float(x),
                "y": float(y),
                "confidence": None if sure is None else float(sure[k]),
            }
            for face, sure in ((face, face.point_confidence) for face in self)
            for k, (x, y) in enumerate(face.landmarks)
        ]
        columns = ["image", "face", "frame", "time", "track", "point", "x", "y", "confidence"]
        return _imported("pandas").DataFrame(rows, columns=columns)

    def to_coco(self) -> dict[str, Any]:
        """COCO key points as plain values: `images`, `annotations`, `categories`; `json.dump` writes them.

        Pictures are named as they were given (an array is `picture`), frames of a video by its name, @ and a number.
        """
        named = []
        for i, face in enumerate(self):
            name = (face.image or "picture") + ("" if face.frame is None else f"@{face.frame}")
            named.append((FaceSample(id=face.id or f"#{i + 1}", image=Path(name), landmarks=face.landmarks), name))
        return coco_content(named, self.schema, lambda _: self.size)

    def _arrays(self) -> tuple[np.ndarray, np.ndarray | None]:
        """(N, P, 2) landmarks, and (N, P) confidences or None."""
        if not self:
            return np.empty((0, self.schema.num_points, 2)), None
        sure = [s for face in self if (s := face.point_confidence) is not None]
        return np.stack([face.landmarks for face in self]), np.stack(sure) if len(sure) == len(self) else None
