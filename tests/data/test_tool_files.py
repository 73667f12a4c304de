"""A labelling tool's files are parsed once, whatever is asked of them before they are read."""

from pathlib import Path

import numpy as np
import pytest

from builders.layouts import picture, points
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.formats import FORMATS, ReadOptions, WriteOptions, cvat, imglab, label_studio, labelme
from stylealign.data.formats.notes import Notes
from stylealign.data.formats.tool_files import Opened, ToolReader
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema

READERS = {
    "cvat": cvat.READER, "labelme": labelme.READER, "label-studio": label_studio.READER, "imglab": imglab.READER,
}  # fmt: skip
THREE = LandmarkSchema(name="three", num_points=3)


@pytest.mark.parametrize("name", READERS)
def test_what_was_counted_and_named_is_read_without_another_look(name: str, tmp_path: Path) -> None:
    image, source = picture(tmp_path / "in" / "a.png"), tmp_path / "tool"
    face = FaceSample(id="a", image=image, landmarks=points(3, 0), visible=np.array([True, False, True]))
    data = write_dataset(tmp_path / "data", [face], schema=THREE, name="x", image_root=image.parent, how={})
    source.mkdir()
    write = FORMATS[name].write
    assert write is not None
    write(data, source, WriteOptions())
    files = READERS[name].files
    for path in files.of(source):  # pictures moved since, so that there is something to note
        text = path.read_text().replace("images/a.png", "gone/images/a.png").replace('"a.png"', '"gone/a.png"')
        path.write_text(text)
    parsed: list[Path] = []

    def opened(source: Path, notes: Notes, images: Path | None) -> Opened:
        parsed.append(source)
        return READERS[name].opened(source, notes, images)

    reader = ToolReader(files, opened)

    def read(**more: Path) -> tuple[FaceSample, list[str]]:
        options = ReadOptions(schema=THREE, **more)
        (entry,) = reader.read(source, options)
        assert isinstance(entry, FaceSample), entry
        return entry, list(options.notes)

    assert reader.count_points(source) == 3
    names = reader.point_names(source)
    kept, kept_notes = read()
    assert len(parsed) == 1
    fresh, fresh_notes = read()
    assert len(parsed) == 2  # it is kept until it is read, not for ever
    assert (kept.id, kept.image, kept.split) == (fresh.id, fresh.image, fresh.split)
    for field in ("landmarks", "visible", "box_xyxy"):
        assert np.array_equal(getattr(kept, field), getattr(fresh, field))
    assert kept_notes == fresh_notes
    assert any("by the end of the name" in note for note in kept_notes)

    reader.count_points(source)
    read(images=fresh.image.parent)  # pictures from another folder: what was kept says where others lie
    assert len(parsed) == 4

    reader.count_points(source)
    for path in files.of(source):
        path.write_text(path.read_text().replace(names[0], "another"))
    assert "another" in reader.point_names(source)
