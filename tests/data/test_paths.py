"""Where a stranger's names may lead: below the folder they belong to, or to a sentence before anything is opened."""

import json
import os
from pathlib import Path

import pytest

from builders.layouts import csv_text, picture, points
from stylealign.data.dataset import FaceDataset, content_hash
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.formats import FORMATS, BadEntry, ReadOptions, having
from stylealign.data.paths import following_links, inside, outside
from stylealign.errors import UserError
from stylealign.face.sample import FaceSample
from stylealign.face.schema import FIVE
from stylealign.jobs import check, export_dataset, prepare
from stylealign.jobs.export_dataset import ExportDataset
from stylealign.jobs.prepare import Prepare

LAYOUTS = [name for name in having("write") if FORMATS[name].num_points in (None, 5)]


def tree(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*")}


def edited(folder: Path, meta: dict | None = None, **row: object) -> Path:
    """A data set of one face that owns its picture, its files then edited as a stranger may have; hashes are right."""
    image = picture(folder.parent / "x.png")
    face = FaceSample(id="f", image=image, landmarks=points(5))
    write_dataset(folder, [face], schema=FIVE, name="s", images="copy")
    index = folder / "index.jsonl"
    values = {**json.loads(index.read_text()), **row}
    values["landmarks"] = values.pop("landmarks")
    index.write_text(json.dumps(values) + "\n")
    kept = json.loads(json.dumps(FaceDataset.open(folder).meta)) | (meta or {})
    kept |= {"splits": {values["split"]: 1}, "content_hash": content_hash(index, FIVE)}
    (folder / "dataset.yaml").write_text(json.dumps(kept))
    return folder


@pytest.mark.parametrize("name", ["a.png", "b/c.png", "b/../a.png", "/etc/passwd", "../a.png", "a\0.png", "b/../../a"])
def test_a_name_leads_below_its_folder_or_is_refused(name: str, tmp_path: Path) -> None:
    if name in ("a.png", "b/c.png"):
        assert inside(tmp_path, name, "here") == tmp_path / name
    else:
        with pytest.raises(UserError, match=r"^here: .*(does not lie below|a NUL in it)"):
            inside(tmp_path, name, "here")


def test_links_may_lead_to_places_below_the_folder_and_out_of_it_only_if_told_so(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "real").mkdir(parents=True)
    (tmp_path / "away").mkdir()
    (home / "in").symlink_to("real")
    (home / "out").symlink_to(tmp_path / "away")
    (tmp_path / "root").symlink_to(home)
    assert outside(home / "in" / "a.png", home) is None
    assert outside(tmp_path / "root" / "real" / "a.png", tmp_path / "root") is None
    assert "a link that leads out of" in str(outside(home / "out" / "a.png", home))
    with following_links(True):
        assert outside(home / "out" / "a.png", home) is None
        assert outside(home / ".." / "a.png", home) is not None
    assert "STYLEALIGN_FOLLOW_LINKS" not in os.environ


@pytest.mark.parametrize("split", ["../../../escaped", "/ABSOLUTE/escaped"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_split_never_names_a_file_outside_of_the_export(layout: str, split: str, tmp_path: Path) -> None:
    split = split.replace("/ABSOLUTE", str(tmp_path))
    data = edited(tmp_path / "data" / "set", split=split)
    work = tmp_path / "deep" / "er"
    work.mkdir(parents=True)
    before = tree(tmp_path)
    with pytest.raises(UserError, match=r"escaped.* is to name a file"):
        export_dataset.main(ExportDataset(data=data, format=layout, out=work / "out"))
    assert tree(tmp_path) == before


@pytest.mark.parametrize("image", ["../../away.png", "/ABSOLUTE/away.png", "link.png", "folder/away.png"])
def test_a_picture_elsewhere_is_refused_by_every_verb(
    image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = picture(tmp_path / "away.png", seed=5)
    data = edited(tmp_path / "set", image=image.replace("/ABSOLUTE", str(tmp_path)))
    (data / "images" / "link.png").symlink_to(away)
    (data / "images" / "folder").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    jobs = [
        lambda: FaceDataset.open(data)[0],
        lambda: check.main(check.Check(path=data)),
        *(lambda f=f: export_dataset.main(ExportDataset(data=data, format=f, out=tmp_path / "out")) for f in LAYOUTS),
        lambda: prepare.main(Prepare(reader="dataset", path=data, copy=True, out=tmp_path / "out")),
    ]
    for job in jobs:
        with pytest.raises(UserError, match=r"index\.jsonl:1: .*(does not lie below|leads out of)"):
            job()
    assert tree(tmp_path) == before


def test_links_out_of_a_data_set_are_taken_if_told_so(tmp_path: Path) -> None:
    away = picture(tmp_path / "away.png", seed=5)
    data = edited(tmp_path / "set", image="link.png")
    (data / "images" / "link.png").symlink_to(away)
    with following_links(True):
        export_dataset.main(ExportDataset(data=data, format="csv", out=tmp_path / "out"))
    assert (tmp_path / "out" / "images" / "link.png").read_bytes() == away.read_bytes()


@pytest.mark.parametrize("root", ["../..", "images/../..", "away"])
def test_an_image_root_that_climbs_out_is_refused(root: str, tmp_path: Path) -> None:
    data = edited(tmp_path / "set", {"image_root": root})
    (data / "away").symlink_to(tmp_path)
    with pytest.raises(UserError, match=r"dataset\.yaml: image_root: "):
        FaceDataset.open(data)


def test_an_absolute_image_root_is_the_users_own_and_said(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    away = picture(tmp_path / "pictures" / "x.png", seed=5)
    data = edited(tmp_path / "set", {"image_root": str(away.parent)}, image="x.png")
    with pytest.raises(UserError, match="has changed"):  # its digest is another picture's
        check.main(check.Check(path=data))
    assert "(not in the folder)" in capsys.readouterr().out
    export_dataset.main(ExportDataset(data=data, format="csv", out=tmp_path / "out"))
    assert (tmp_path / "out" / "images" / "x.png").read_bytes() == away.read_bytes()


def test_what_is_no_picture_is_not_exported(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "id_rsa").write_text("secret")
    data = edited(tmp_path / "set", {"image_root": str(tmp_path / "pictures")}, image="id_rsa")
    with pytest.raises(UserError, match="id_rsa: not an image"):
        export_dataset.main(ExportDataset(data=data, format="csv", out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_readers_link_out_of_its_folder_is_a_bad_entry_unless_told_so(tmp_path: Path) -> None:
    picture(tmp_path / "away.png")
    source = tmp_path / "in"
    (source / "images").mkdir(parents=True)
    (source / "images" / "a.png").symlink_to(tmp_path / "away.png")
    (source / "train.csv").write_text(csv_text([("a.png", points(5))], 5))
    (entry,) = FORMATS["csv"].read(source, ReadOptions(schema=FIVE))
    assert isinstance(entry, BadEntry)
    assert "leads out of" in entry.message
    with following_links(True):
        (entry,) = FORMATS["csv"].read(source, ReadOptions(schema=FIVE))
    assert isinstance(entry, FaceSample)


def test_a_sources_name_cannot_lead_out_of_the_copies(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png")
    sources = [prepare.Source(reader="folder", path=tmp_path / "in", schema="five", name=n) for n in ("../../b", "c")]
    before = tree(tmp_path)
    with pytest.raises(UserError, match="does not lie below"):
        prepare.main(Prepare(sources=tuple(sources), copy=True, convert="five", out=tmp_path / "out"))
    assert tree(tmp_path) == before
