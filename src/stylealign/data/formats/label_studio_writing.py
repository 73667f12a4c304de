"""Writes Label Studio's lists of tasks, and the labelling configuration of a project that takes them."""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from stylealign.data.dataset import FaceDataset
from stylealign.data.formats.hidden import HIDDEN
from stylealign.data.formats.writing import Pictures, WriteOptions, as_shown, box_of, by_picture, by_split, names_of
from stylealign.data.xml_elements import tag_text
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema

CONFIG_FILE = "label_config.xml"
_LOCAL = "/data/local-files/?d="


def _result(faces: list[FaceSample], schema: LandmarkSchema) -> list[dict[str, Any]]:
    names, items = names_of(schema), list[dict[str, Any]]()
    (width, height), faces = as_shown(faces)
    size = np.array([width, height], dtype=np.float64)

    def add(id: str, kind: str, control: str, value: dict[str, Any], **more: Any) -> None:
        items.append({
            "id": id, "type": kind, "from_name": control, "to_name": "image", "original_width": width,
            "original_height": height, "image_rotation": 0, "value": value, **more,
        })  # fmt: skip

    for n, face in enumerate(faces):
        assert face.landmarks is not None
        corners = box_of(face).reshape(2, 2) / size * 100
        x, y, w, h = (round(float(v), 8) for v in (*corners[0], *(corners[1] - corners[0])))
        place = {"x": x, "y": y, "width": w, "height": h, "rotation": 0}
        add(f"f{n}", "rectanglelabels", "box", {**place, "rectanglelabels": ["face"]})
        if flags := [name for name, on in face.attributes.items() if on]:
            add(f"f{n}", "choices", "attributes", {**place, "choices": flags})
        for i, (px, py) in enumerate((face.landmarks.astype(np.float64) / size * 100).round(8).tolist()):
            if face.missing_points[i]:
                continue
            point = {"x": px, "y": py, "width": 0.5}
            add(f"f{n}p{i}", "keypointlabels", "points", {**point, "keypointlabels": [names[i]]}, parentID=f"f{n}")
            if face.visible is not None and not face.visible[i]:
                add(f"f{n}p{i}", "choices", "visibility", {**point, "choices": [HIDDEN[0]]})
    return items


def _config(schema: LandmarkSchema, attributes: Sequence[str]) -> str:
    """The labelling configuration of a project that takes the tasks."""
    points = "".join(
        f"\n    {tag_text('Label', {'value': name, 'model_index': i})}" for i, name in enumerate(names_of(schema))
    )
    lines = [
        tag_text("Image", {"name": "image", "value": "$image"}),
        tag_text("RectangleLabels", {"name": "box", "toName": "image"}, tag_text("Label", {"value": "face"})),
        tag_text("KeyPointLabels", {"name": "points", "toName": "image"}, f"{points}\n  "),
        tag_text(
            "Choices",
            {"name": "visibility", "toName": "image", "perRegion": "true", "whenTagName": "points"},
            tag_text("Choice", {"value": HIDDEN[0]}),
        ),
    ]
    if attributes:
        head = {
            "name": "attributes",
            "toName": "image",
            "perRegion": "true",
            "choice": "multiple",
            "whenTagName": "box",
        }
        lines.append(tag_text("Choices", head, "".join(tag_text("Choice", {"value": name}) for name in attributes)))
    inner = "".join(f"\n  {line}" for line in lines)
    return f"<View>{inner}\n</View>\n"


def _address(path: str) -> str:
    """The address of a local file; whatever would end the path in an address, or be read as another sign, is quoted."""
    return f"{_LOCAL}{quote(os.fsencode(path))}"


def _save(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def write(dataset: FaceDataset, folder: Path, options: WriteOptions) -> None:
    """Write tasks/<split>.json a split, images/, and the configuration of a project."""
    pictures = Pictures(folder / "images", dataset, options)
    attributes: dict[str, None] = {}
    for split, samples in by_split(dataset):
        tasks = []
        for image, faces in by_picture(samples):
            data = {"image": _address(f"images/{pictures.name_of(image)}"), "split": split}
            tasks.append({"data": data, "annotations": [{"result": _result(faces, dataset.schema)}]})
            attributes |= dict.fromkeys(name for face in faces for name in face.attributes)
        _save(folder / "tasks" / f"{split}.json", tasks)
    (folder / CONFIG_FILE).write_text(_config(dataset.schema, list(attributes)), encoding="utf-8")


def write_predicted(folder: Path, faces: Iterable[FaceSample], schema: LandmarkSchema) -> None:
    """Write label_studio/tasks.json, whose predictions the tool shows to be corrected, and the configuration."""
    tasks = [
        {
            "data": {"image": _address(image.as_posix().lstrip("/"))},
            "predictions": [{"model_version": "stylealign", "result": _result(own, schema)}],
        }
        for image, own in by_picture(faces)
    ]
    _save(folder / "label_studio" / "tasks.json", tasks)
    (folder / "label_studio" / CONFIG_FILE).write_text(_config(schema, ()), encoding="utf-8")
