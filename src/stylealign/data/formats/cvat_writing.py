"""Writes CVAT for images 1.1, and the label that a CVAT task needs before it takes such a file.

A task takes a file in only if it has the file's labels: `cvat_labels.json` is what its raw constructor is given.
"""

import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from stylealign.data.dataset import FaceDataset
from stylealign.data.formats.entry import split_of
from stylealign.data.formats.writing import (
    Pictures,
    WriteOptions,
    as_shown,
    box_of,
    by_picture,
    by_split,
    landmarks_of,
    names_of,
)
from stylealign.data.xml_elements import tag_text, text_element
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema

_LABEL = "face"
LABELS_FILE = "cvat_labels.json"


def _drawing(schema: LandmarkSchema, shape: np.ndarray) -> str:
    """The SVG of a skeleton in a square of 100: `shape` (P, 2) px of a typical face."""
    low, side = shape.min(axis=0), max(float(np.ptp(shape, axis=0).max()), 1e-6)
    places = 5 + (shape - low) / side * 90
    edges = sorted({(a, b) for curve in schema.boundaries.values() for a, b in itertools.pairwise(curve)})
    lines = [
        tag_text("line", {
            "x1": f"{places[a][0]:.2f}", "y1": f"{places[a][1]:.2f}", "x2": f"{places[b][0]:.2f}",
            "y2": f"{places[b][1]:.2f}", "data-type": "edge", "data-node-from": a + 1, "data-node-to": b + 1,
        }, "")
        for a, b in edges
    ]  # fmt: skip
    nodes = [
        tag_text("circle", {
            "r": "0.75", "cx": f"{x:.2f}", "cy": f"{y:.2f}", "data-type": "element node", "data-element-id": i + 1,
            "data-node-id": i + 1, "data-label-name": name,
        }, "")
        for i, ((x, y), name) in enumerate(zip(places, names_of(schema), strict=True))
    ]  # fmt: skip
    return "".join(lines + nodes)


def labels_of(schema: LandmarkSchema, shape: np.ndarray, attributes: Sequence[str]) -> list[dict[str, Any]]:
    """What the raw constructor of a CVAT task is given: one skeleton, its points named as in the file."""
    checks = [
        {"name": name, "mutable": False, "input_type": "checkbox", "default_value": "false", "values": ["false"]}
        for name in attributes
    ]
    points = [{"name": name, "type": "points", "attributes": []} for name in names_of(schema)]
    return [{
        "name": _LABEL, "type": "skeleton", "attributes": checks, "sublabels": points, "svg": _drawing(schema, shape),
    }]  # fmt: skip


def _meta(name: str, count: int, schema: LandmarkSchema, attributes: Sequence[str]) -> str:
    checks = "".join(
        tag_text("attribute", {}, "".join((
            text_element("name", key), text_element("mutable", "False"), text_element("input_type", "checkbox"),
            text_element("default_value", "false"), text_element("values", "false"),
        )))
        for key in attributes
    )  # fmt: skip
    labels = [f"{text_element('name', _LABEL)}{text_element('type', 'skeleton')}{tag_text('attributes', {}, checks)}"]
    labels += [
        f"{text_element('name', point)}{text_element('type', 'points')}{tag_text('attributes', {}, '')}"
        f"{text_element('parent', _LABEL)}"
        for point in names_of(schema)
    ]
    inner = "\n".join(f"<label>{label}</label>" for label in labels)
    head = text_element("name", name) + text_element("size", str(count)) + text_element("mode", "annotation")
    task = f"{head}<labels>\n{inner}\n</labels>"
    return f"<meta><task>{task}</task></meta>"


def _face(face: FaceSample, group: int, names: Sequence[str]) -> str:
    visible = np.ones(len(names), bool) if face.visible is None else face.visible
    parts = []
    for i, (x, y) in enumerate(landmarks_of(face)):
        gone = bool(face.missing_points[i])
        parts.append(tag_text("points", {
            "label": names[i], "source": "manual", "occluded": int(not gone and not visible[i]), "outside": int(gone),
            "points": f"{x:.4f},{y:.4f}",
        }))  # fmt: skip
    flags = "".join(
        tag_text("attribute", {"name": name}, "true" if on else "false") for name, on in face.attributes.items()
    )
    common = {"label": _LABEL, "source": "manual", "occluded": 0, "z_order": 0, "group_id": group}
    skeleton = tag_text("skeleton", common, "\n" + "\n".join(parts) + f"\n{flags}")
    if face.box_xyxy is None:
        return skeleton
    corners = zip(("xtl", "ytl", "xbr", "ybr"), (f"{v:.4f}" for v in box_of(face)), strict=True)
    return f"{tag_text('box', {**common, **dict(corners)})}\n{skeleton}"


def save(
    path: Path, pictures: Sequence[tuple[str, list[FaceSample]]], schema: LandmarkSchema, subset: str | None = None
) -> None:
    """Write one annotations.xml of (an image's name, its faces), and the task's labels beside it."""
    names = names_of(schema)
    faces = [face for _, own in pictures for face in own]
    attributes = list(dict.fromkeys(name for face in faces for name in face.attributes))
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
        file.write(f"{_meta(path.parent.name, len(pictures), schema, attributes)}\n")
        group = 0
        for number, (name, own) in enumerate(pictures):
            (width, height), turned = as_shown(own)
            shapes = []
            for face in turned:
                group += 1
                shapes.append(_face(face, group, names))
            head = {"id": number, "name": name, "subset": subset, "width": width, "height": height}
            file.write(tag_text("image", head, "\n" + "\n".join(shapes) + "\n") + "\n")
        file.write("</annotations>\n")
    whole = [landmarks_of(face) for face in faces if not face.missing_points.any()]
    if not whole:  # the drawing is a help for the eye alone
        angles = np.linspace(0, 2 * np.pi, schema.num_points, endpoint=False)
        whole = [np.stack([np.sin(angles), -np.cos(angles)], axis=1)]
    shape = np.mean(
        [(points - points.mean(axis=0)) / max(float(np.ptp(points, axis=0).max()), 1e-6) for points in whole], axis=0
    )
    text = json.dumps(labels_of(schema, shape, attributes), ensure_ascii=False, indent=1)
    (path.parent / LABELS_FILE).write_text(text, encoding="utf-8")


def write(dataset: FaceDataset, folder: Path, options: WriteOptions) -> None:
    """Write <split>/annotations.xml, the labels of its task, and its pictures in <split>/images/."""
    pictures = Pictures(folder, dataset, options)
    for split, samples in by_split(dataset):
        subset = None if split_of(split) == split else split  # a task's file names none
        folder_of_subset = subset is not None and PurePath(split).parts == (split,)
        within = f"{split}/images/{split}" if folder_of_subset else f"{split}/images"  # where a subset's are looked for
        named = [
            (pictures.name_of(image, within=within).removeprefix(f"{within}/"), faces)
            for image, faces in by_picture(samples)
        ]
        save(folder / split / "annotations.xml", named, dataset.schema, subset)


def write_predicted(folder: Path, faces: Iterable[FaceSample], schema: LandmarkSchema) -> None:
    """Write cvat/annotations.xml, whose images have the names given to `predict`, and the labels of its task."""
    save(folder / "cvat" / "annotations.xml", [(i.as_posix(), own) for i, own in by_picture(faces)], schema)
