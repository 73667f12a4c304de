"""Files of labelling tools, as small as they can be, and the faces that are read from them."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from builders.layouts import HEIGHT, WIDTH, picture
from stylealign.data.formats import FORMATS, BadEntry, Entry, ReadOptions
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema

THREE = LandmarkSchema(name="three", num_points=3, point_names=("left eye", "right eye", "nose"))
PLACES = np.array([[10.5, 20.25], [30.125, 20.5], [20.0, 30.0]])


def read(name: str, source: Path, schema: LandmarkSchema = THREE, **options: Any) -> list[Entry]:
    options.setdefault("point_names", schema.point_names)
    return list(FORMATS[name].read(source, ReadOptions(schema=schema, **options)))


def one(entries: list[Entry]) -> FaceSample:
    (face,) = entries
    assert isinstance(face, FaceSample), face
    return face


def wrong(entries: list[Entry]) -> str:
    (entry,) = entries
    assert isinstance(entry, BadEntry), entry
    return str(entry)


def labelme(folder: Path, shapes: list[dict], name: str = "a.json", **more: Any) -> Path:
    image = more.pop("imagePath", "a.png")
    picture(folder / "a.png")
    content = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": image, "imageData": None,
               "imageHeight": HEIGHT, "imageWidth": WIDTH} | more  # fmt: skip
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def point(label: str, xy: np.ndarray, group: int | None = None, **flags: bool) -> dict:
    return {"label": label, "points": [xy.tolist()], "group_id": group, "shape_type": "point", "flags": flags}


def labelled(names: tuple[str, ...] = THREE.point_names, group: int | None = None) -> list[dict]:
    return [point(name, xy, group) for name, xy in zip(names, PLACES, strict=True)]


CVAT_HEAD = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'


def cvat(
    folder: Path, shapes: str, meta: str = "", image: str = f'name="a.png" width="{WIDTH}" height="{HEIGHT}"'
) -> Path:
    picture(folder / "images" / "a.png")
    meta = f"<meta><task><labels>{meta}</labels></task></meta>"
    text = f'{CVAT_HEAD}{meta}<image id="0" {image}>{shapes}</image></annotations>'
    (folder / "annotations.xml").write_text(text, encoding="utf-8")
    return folder


def xy(row: int) -> str:
    return f"{PLACES[row][0]:.2f},{PLACES[row][1]:.2f}"


def cvat_points(names: tuple[str, ...] = THREE.point_names, more: str = "") -> str:
    return "".join(f'<points label="{n}" occluded="0" points="{xy(i)}" {more}/>' for i, n in enumerate(names))


def label_studio(folder: Path, result: list[dict], image: str = "a.png", **task: Any) -> Path:
    picture(folder / "a.png")
    content = [{"id": 1, "data": {"image": image}, "annotations": [{"result": result}]} | task]
    (folder / "tasks.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def regions(parent: str | None = None, names: tuple[str, ...] = THREE.point_names, **more: Any) -> list[dict]:
    return [
        {"id": f"{parent}{i}", "type": "keypointlabels", "original_width": WIDTH, "original_height": HEIGHT,
         "parentID": parent, "value": {"x": x / WIDTH * 100, "y": y / HEIGHT * 100, "keypointlabels": [name]}} | more
        for i, (name, (x, y)) in enumerate(zip(names, PLACES, strict=True))
    ]  # fmt: skip


def rectangle(id: str, rotation: float = 0) -> dict:
    value = {"x": 50, "y": 50, "width": 25, "height": 25, "rotation": rotation, "rectanglelabels": ["face"]}
    return {"id": id, "type": "rectanglelabels", "original_width": WIDTH, "original_height": HEIGHT, "value": value}
