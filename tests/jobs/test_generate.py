"""`generate`: pairing, inheritance, resumption, and the same bytes however the work was cut."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.painted import FIVE, SIZE, PaintedTranslator, job, make_faces, untrained_translator
from builders.places import SRC
from builders.tiny import tree
from stylealign.batches.batch import to_float
from stylealign.batches.crops import crop_sample
from stylealign.cli import main as command_line
from stylealign.data.dataset import FaceDataset, drawn_by, sources_of
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.image import read_image
from stylealign.errors import UserError
from stylealign.face import geometry
from stylealign.face.sample import FaceSample
from stylealign.face.schema import SCHEMAS
from stylealign.jobs.generate.job import generate
from stylealign.jobs.generate.pairing import inherited_attributes, other_donors, own_positions, pair_styles
from stylealign.jobs.prepare import Prepare, Source
from stylealign.jobs.prepare import main as prepare
from stylealign.jobs.pseudo_label.labelling import describe
from stylealign.jobs.trust import Trust
from stylealign.training.seen import labels_seen
from stylealign.translators.swapping import swap_matrix


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> FaceDataset:
    return make_faces(tmp_path_factory.mktemp("faces") / "data", 11)


# ------------------------------------------------------------------------------------------------------------ pairing


@settings(max_examples=40)
@given(st.integers(1, 12), st.integers(4, 30), st.integers(1, 4), st.integers(0, 99))
def test_a_face_gets_k_different_donors_and_never_itself(contents, donors, k, seed):
    same = np.random.default_rng(seed).integers(-1, donors, contents)
    if k > donors - 1:
        return
    pairs = pair_styles(contents, donors, k, seed, same)
    assert pairs.shape == (contents, k)
    for row, itself in zip(pairs, same, strict=True):
        assert len(set(row)) == k
        assert itself not in row
        assert 0 <= row.min() <= row.max() < donors


def test_a_face_s_donors_depend_on_the_seed_and_the_face_only():
    same = np.arange(50)
    pairs = pair_styles(50, 50, 8, 3, same)
    assert np.array_equal(pairs[:20], pair_styles(20, 50, 8, 3, same[:20]))
    assert not np.array_equal(pairs, pair_styles(50, 50, 8, 4, same))


def test_every_donor_is_drawn_about_equally_often():
    counts = np.bincount(pair_styles(3000, 10, 3, 0, np.arange(3000) % 10).ravel(), minlength=10)
    assert abs(counts / 900 - 1).max() < 0.1  # 900 expected, standard deviation 25


def test_more_styles_than_donors_is_refused_with_both_numbers():
    with pytest.raises(
        UserError,
        match=r"needs 5 different donors a face, but there are 5, one of which is the face itself: ask for at most 4",
    ):
        pair_styles(5, 5, 5, 0, np.arange(5))
    assert pair_styles(5, 5, 5, 0).shape == (5, 5)  # five strangers are enough


def test_a_face_is_recognised_in_another_data_set_by_its_picture_and_name(tmp_path, faces):
    copies = [faces[i] for i in (4, 2)]
    other = FaceSample(id=faces[1].id, image=faces[3].image)  # the same name, but another picture
    donors = write_dataset(tmp_path / "other", [*copies, other], schema=FIVE, name="other")
    same = own_positions(faces, donors)
    assert same[4] == 0
    assert same[2] == 1
    assert (np.delete(same, [2, 4]) == -1).all()
    assert np.array_equal(own_positions(faces, faces), np.arange(len(faces)))


def test_structure_attributes_and_label_budgets_are_inherited_and_style_attributes_are_not(faces):
    assert inherited_attributes(faces[0]) == {"pose": True, "tenth": True}


# ------------------------------------------------------------------------------------------------------- the data set


def test_the_result_is_a_data_set_with_exactly_inherited_labels(tmp_path, faces):
    translator = PaintedTranslator()
    generate(job(faces, tmp_path / "made", image_format="png"), translator)
    made = FaceDataset.open(tmp_path / "made")
    assert made.verify() == []
    assert len(made) == 33
    assert made.ids() == [f"a/face{i}@{s}" for i in range(11) for s in range(3)]
    by_id = {f.id: f for f in faces}
    for face in made:
        content, style = by_id[face.provenance.content_id], by_id[face.provenance.style_id]
        assert style.id != content.id
        _, expected, affine = crop_sample(content, translator.crop)
        assert np.array_equal(face.landmarks, expected.astype(np.float32))
        assert np.array_equal(face.provenance.crop_from_source, affine)
        assert np.allclose(face.box_xyxy, geometry.apply(affine, content.box_xyxy.reshape(2, 2)).ravel(), atol=1e-4)
        assert np.array_equal(face.visible, content.visible)
        assert (face.split, face.provenance.mode, face.provenance.translator) == ("train", "transfer", "f" * 64)
        picture = read_image(face.image).astype(float)
        assert (
            np.abs(np.median(picture, axis=(0, 1)) - read_image(style.image)[0, 0]).max() <= 1
        )  # the donor's colour ...
        x, y = np.round(face.landmarks[2]).astype(int)
        drawn = np.abs(picture - np.median(picture, axis=(0, 1))).sum(-1)
        assert drawn[y, x] > 0.5 * drawn.max()  # ... and the content's structure, where its label says


def test_faces_made_from_made_faces_name_the_real_ones_whose_labels_they_have(tmp_path, faces):
    generate(job(faces, tmp_path / "made", styles_per_face=1), PaintedTranslator())
    made = FaceDataset.open(tmp_path / "made")
    generate(job(made, tmp_path / "again", styles_per_face=1), PaintedTranslator())
    again, by_id = FaceDataset.open(tmp_path / "again"), {face.id: face for face in faces}
    assert again.ids() == [f"{i}@0@0" for i in faces.ids()]
    for face in again:
        origin, affine = by_id[face.provenance.content_id], np.array(face.provenance.crop_from_source)
        assert face.id == f"{origin.id}@0@0"
        assert np.allclose(geometry.apply(affine, origin.landmarks), face.landmarks, atol=1e-3)
    assert sources_of(made.meta) == [faces.content_hash]
    assert sources_of(again.meta) == [made.content_hash, faces.content_hash]
    assert own_positions(again, made).tolist() == list(range(len(made)))  # the made faces give styles
    few = faces.take([5, 2, 7])  # whoever gives styles, no face gets its own
    assert own_positions(again, few).tolist() == [{5: 0, 2: 1, 7: 2}.get(i, -1) for i in range(len(faces))]


def test_structures_and_donors_are_encoded_once(tmp_path, faces):
    translator = PaintedTranslator()
    generate(job(faces, tmp_path / "made", sheets=0), translator)
    assert translator.decodes == 33
    assert translator.structures == 11
    assert translator.styles <= 11


def test_swapping_n_faces_encodes_n_structures_and_n_styles_and_decodes_n_times_n(faces):
    translator = PaintedTranslator()
    structures = torch.rand(7, 5, 2) * SIZE
    styles = torch.rand(7, 3, SIZE, SIZE)
    grid = swap_matrix(translator, structures, styles)
    assert (translator.structures, translator.styles, translator.decodes) == (7, 7, 49)
    alone = translator.decode(translator.encode_structure(structures[2:3]), translator.encode_style(styles[5:6]))
    assert torch.equal(grid[2, 5], alone[0])


def test_nothing_of_the_work_is_left_and_a_second_call_does_nothing(tmp_path, faces, capsys):
    config = job(faces, tmp_path / "made")
    generate(config, PaintedTranslator())
    before = tree(tmp_path / "made")
    assert {name.split("/")[0] for name in before} == {"dataset.yaml", "index.jsonl", "images", "sheets"}
    assert not list(tmp_path.glob("*.partial"))
    generate(config, PaintedTranslator(stop_after=0))
    assert "nothing to do" in capsys.readouterr().err
    assert tree(tmp_path / "made") == before
    with pytest.raises(UserError, match=r"config.seed: 0 there, 1 now"):
        generate(job(faces, tmp_path / "made", seed=1), PaintedTranslator())


@pytest.mark.parametrize("mode", ["transfer", "interpolate", "prior"])
@pytest.mark.parametrize("stop_after", [0, 14, 27])
def test_a_stopped_run_continues_and_ends_with_the_same_bytes(tmp_path, faces, mode, stop_after):
    generate(job(faces, tmp_path / "whole" / "made", mode=mode), PaintedTranslator())
    config = job(faces, tmp_path / "stopped" / "made", mode=mode)
    with pytest.raises(KeyboardInterrupt):
        generate(config, PaintedTranslator(stop_after=stop_after))
    assert not config.out.exists()
    again = PaintedTranslator()
    generate(config, again)
    assert again.decodes < 33 + 9 or stop_after == 0
    assert tree(tmp_path / "whole") == tree(tmp_path / "stopped")


def test_a_stopped_run_of_another_configuration_is_refused(tmp_path, faces):
    with pytest.raises(KeyboardInterrupt):
        generate(job(faces, tmp_path / "made"), PaintedTranslator(stop_after=20))
    with pytest.raises(UserError, match=r"another configuration \(config.quality: 95 there, 60 now\)"):
        generate(job(faces, tmp_path / "made", quality=60), PaintedTranslator())


def test_a_run_stopped_while_tidying_up_still_ends_in_the_same_bytes(tmp_path, faces, monkeypatch):
    config = job(faces, tmp_path / "a" / "made")
    generate(config, PaintedTranslator())
    before = tree(config.out)
    os.rename(config.out, config.out.with_name("made.partial"))  # everything written, units gone, not yet renamed
    generate(config, PaintedTranslator(stop_after=0))
    assert tree(config.out) == before


def test_three_processes_in_turn_make_the_bytes_of_one(tmp_path, faces):
    generate(job(faces, tmp_path / "one" / "made"), PaintedTranslator())
    config = job(faces, tmp_path / "three" / "made")

    class Stop(Exception):
        pass

    def barriers(count: int):
        left = [count]

        def barrier():
            left[0] -= 1
            if left[0] < 0:
                raise Stop

        return barrier

    # Process 0 stands at each barrier until the others have come: here they run one after another, stage by stage.
    for stage in (3, 4):
        for rank in (0, 2, 1):
            with pytest.raises(Stop):
                generate(config, PaintedTranslator(), rank=rank, world=3, barrier=barriers(stage - 1))
    generate(config, PaintedTranslator(stop_after=0), rank=0, world=3)
    assert tree(tmp_path / "one") == tree(tmp_path / "three")


def test_unlabelled_donors_of_another_data_set_give_styles(tmp_path, faces):
    donors = make_faces(tmp_path / "wild", 6, seed=5, labelled=False, prefix="wild")
    generate(job(faces, tmp_path / "made", donors=donors.folder), PaintedTranslator())
    made = FaceDataset.open(tmp_path / "made")
    assert {f.provenance.style_id for f in made} <= set(donors.ids())
    assert made.meta["how"]["inputs"]["donors"]["content_hash"] == donors.content_hash


def test_a_donor_is_encoded_with_its_landmarks_whether_its_neighbours_have_any_or_not(tmp_path, faces):
    """Codes are made and kept for several donors at a time."""

    class Looking(PaintedTranslator):
        def encode_style(self, image, landmarks=None):
            seen.update({one.numpy().tobytes(): own.numpy() for one, own in zip(image, landmarks, strict=True)})
            return super().encode_style(image, landmarks)

    bare = make_faces(tmp_path / "bare", 6, seed=5, labelled=False, prefix="bare")
    samples = [*faces, *bare]
    donors = write_dataset(tmp_path / "mixed", samples, schema=FIVE, name="mixed", image_root=tmp_path.parent)
    seen, maker = {}, Looking()
    generate(job(faces, tmp_path / "made", donors=donors.folder), maker)
    crops = {to_float(torch.from_numpy(crop_sample(s, maker.crop)[0][None]))[0].numpy().tobytes(): s for s in samples}
    known = [(crops[key].landmarks is not None, np.isfinite(points).all()) for key, points in seen.items()]
    assert {labelled for labelled, _ in known} == {True, False}
    assert all(labelled == finite for labelled, finite in known)


def test_donors_of_another_data_set_are_its_train_where_it_has_one(tmp_path, faces, capsys):
    def data(name: str, splits: list[str]) -> Path:
        samples = [dataclasses.replace(face, split=split) for face, split in zip(faces, splits, strict=False)]
        return write_dataset(tmp_path / name, samples, schema=FIVE, name=name, image_root=faces.image_root).folder

    mixed, wild = data("mixed", ["train", "val", "test", "train"]), data("wild", ["street", "street", "test"])
    assert other_donors(mixed, None, None).ids() == [faces[0].id, faces[3].id]
    assert "faces of split train taken as donors, the other 2 left alone" in capsys.readouterr().err
    assert other_donors(mixed, "val", None).ids() == [faces[1].id]
    assert len(other_donors(mixed, None, "tenth")) == 4  # asked for by a name of theirs
    assert len(other_donors(wild, None, None)) == 3
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("split", "donor_split", "said"),
    [
        ("test_common", "train", ["these faces inherit labels of split test_common"]),
        ("train", "val", ["styles are taken from pictures of split val"]),
        ("val", "test", ["these faces inherit labels of split val", "styles are taken from pictures of split test"]),
        ("train", "train", []),
    ],
)
def test_labels_and_styles_of_faces_that_are_measured_on_are_warned_of(
    tmp_path, faces, capsys, split, donor_split, said
):
    splits = ["train", "train", "train", "val", "val", "test", "test", "test_common", "test_common", "train", "train"]
    samples = [dataclasses.replace(face, split=name) for face, name in zip(faces, splits, strict=True)]
    data = write_dataset(tmp_path / "split", samples, schema=FIVE, name="split", image_root=faces.image_root)
    made = job(data, tmp_path / "made", split=split, donor_split=donor_split, styles_per_face=1, sheets=0)
    generate(made, PaintedTranslator())
    warnings = [line for line in capsys.readouterr().err.splitlines() if "must not be measured there" in line]
    assert [line.removeprefix("warning: ").partition(":")[0] for line in warnings] == said


def test_a_translator_that_saw_more_labels_than_are_inherited_is_warned_of(tmp_path, faces, capsys):
    translator = PaintedTranslator()
    translator.card = {"data": [{"name": "d", "content_hash": faces.content_hash, "split": "train", "subset": None}]}
    for subset, said in ((None, False), ("tenth", True)):
        made = job(faces, tmp_path / f"made_{subset}", subset=subset, donor_subset=None, styles_per_face=1, sheets=0)
        generate(made, translator)
        found = (
            "learnt from split train, subset all of d, expected split train, subset tenth" in capsys.readouterr().err
        )
        assert found == said


def test_a_training_under_a_label_budget_hears_of_faces_drawn_by_a_translator_that_saw_more(tmp_path, faces, capsys):
    """Also of those made again, labelled anew or merged from them: their index says what the translator learnt from."""
    learnt = {"name": "d", "content_hash": faces.content_hash, "split": "train", "subset": None}
    translator = PaintedTranslator()
    translator.card = {"data": [learnt]}
    generate(job(faces, tmp_path / "made", styles_per_face=1, sheets=0), translator)
    made = FaceDataset.open(tmp_path / "made")
    assert drawn_by(made.meta) == [learnt]
    generate(job(made, tmp_path / "again", styles_per_face=1, sheets=0), PaintedTranslator())
    others = make_faces(tmp_path / "others", 3)
    both = [Source(path=folder, reader="dataset") for folder in (made.folder, others.folder)]
    prepare(Prepare(sources=tuple(both), out=tmp_path / "merged"))
    for folder in (made.folder, tmp_path / "again", tmp_path / "merged"):
        assert drawn_by(FaceDataset.open(folder).meta) == [learnt]
    judge = SimpleNamespace(card={"model_hash": "f" * 64, "model": "resnet18"})
    asked = Trust(data=made.folder, detectors=(Path("r"),), out=tmp_path / "anew")
    for verb in ("trust", "pseudo-label"):
        assert drawn_by({"how": describe(asked, verb, made, [judge])}) == [learnt]
    capsys.readouterr()
    said = "drawn by a translator that learnt from split train, subset all of d, expected split train, subset tenth"
    for subset, warned in ((None, False), ("tenth", True)):
        labels_seen(made, faces, "train", subset)
        assert (said in capsys.readouterr().err) == warned


def test_structures_of_a_label_budget_wear_the_styles_of_the_whole_split(tmp_path, faces):
    generate(job(faces, tmp_path / "made", subset="tenth", styles_per_face=8), PaintedTranslator())
    made = FaceDataset.open(tmp_path / "made")
    assert len({f.provenance.content_id for f in made}) == 6
    assert len({f.provenance.style_id for f in made}) > 6


def test_interpolations_name_both_donors_and_mix_their_colours(tmp_path, faces):
    generate(job(faces, tmp_path / "made", mode="interpolate", mix=0.25, image_format="png"), PaintedTranslator())
    by_id = {f.id: f for f in faces}
    for face in FaceDataset.open(tmp_path / "made").take(range(5)):
        a, b = (read_image(by_id[i].image)[0, 0].astype(float) for i in face.provenance.style_id.split(" + "))
        assert np.abs(np.median(read_image(face.image), axis=(0, 1)) - (0.75 * a + 0.25 * b)).max() <= 1


def test_samples_of_the_prior_need_no_donor_and_differ(tmp_path):
    lonely = make_faces(tmp_path / "one", 1)
    generate(job(lonely, tmp_path / "made", mode="prior", image_format="png"), PaintedTranslator())
    made = FaceDataset.open(tmp_path / "made")
    assert [f.provenance.style_id for f in made] == [None] * 3
    assert len({f.image.read_bytes() for f in made}) == 3


def test_refusals_say_what_was_found(tmp_path, faces):
    mixed = write_dataset(
        tmp_path / "mixed", [*faces, FaceSample(id="bare", image=faces[0].image)], schema=FIVE, name="mixed"
    )
    with pytest.raises(UserError, match=r"1 of 12 faces of split 'train' without landmarks"):
        generate(job(mixed, tmp_path / "made"), PaintedTranslator())
    generate(job(mixed, tmp_path / "made", skip_unlabelled=True), PaintedTranslator())
    assert len(FaceDataset.open(tmp_path / "made")) == 33
    other = PaintedTranslator()
    other.schema = SCHEMAS["wflw98"]
    with pytest.raises(UserError, match=r"draws wflw98 faces, but .* holds five"):
        generate(job(faces, tmp_path / "x"), other)
    with pytest.raises(UserError, match=r"needs 11 different donors a face, but there are 11"):
        generate(job(faces, tmp_path / "x", styles_per_face=11), PaintedTranslator())
    with pytest.raises(UserError, match=r"not made by generate"):
        generate(job(faces, faces.folder), PaintedTranslator())
    broken = PaintedTranslator()
    broken.decode = lambda features, style: torch.full((len(style[0]), 3, SIZE, SIZE), torch.nan)
    with pytest.raises(UserError, match=r"not finite"):
        generate(job(faces, tmp_path / "x"), broken)


def judged(**changes) -> dict:
    """A card whose judge found nothing wrong, but for what changes."""
    figures = {"swap_nme": 0.054, "real_nme": 0.05, "gap": 0.004, "share_above_10": 0.06, "real_share_above_10": 0.05}
    return {"judge": {**figures, **changes}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gap": 0.021, "swap_nme": 0.071}, r"structure gap \+2.10 points"),
        ({"gap": 0.0101}, r"structure gap \+1.01 points"),
        ({"share_above_10": 0.16}, r"16.0% of swapped faces above 10 %"),
        ({"gap": float("nan")}, "limits are a gap of 1.0 points and 10% more faces"),
        (
            {"gap": 0.1, "swap_nme": 0.15, "style_nme": 0.06},
            "LEAKING: they lie 6.00% from the landmarks of the face that gave the style",
        ),
    ],
)  # fmt: skip
def test_a_translator_that_does_not_keep_labels_is_refused_with_the_figure_unless_told_otherwise(
    tmp_path, faces, capsys, changes, words
):
    translator = PaintedTranslator()
    translator.card = judged(**changes)
    with pytest.raises(UserError, match=f"none: refused by its judge.*{words}.*--accept-gap"):
        generate(job(faces, tmp_path / "made"), translator)
    assert not list(tmp_path.iterdir())
    assert translator.decodes == 0
    generate(job(faces, tmp_path / "made", accept_gap=True), translator)
    said = capsys.readouterr().err
    assert said.count("WARNING: accepted all the same") == 1
    assert len(FaceDataset.open(tmp_path / "made")) == 33
    # Whether it was accepted is no part of what was made: the same bytes as from a translator that needed no accepting.
    sound = PaintedTranslator()
    sound.card = judged()
    generate(job(faces, tmp_path / "sound" / "made"), sound)
    assert tree(tmp_path / "made") == tree(tmp_path / "sound" / "made")


def test_a_translator_that_keeps_labels_passes_and_one_never_judged_is_warned_of(tmp_path, faces, capsys):
    translator = PaintedTranslator()
    translator.card = judged(gap=0.01)  # the limit itself
    generate(job(faces, tmp_path / "made", sheets=0), translator)
    said = capsys.readouterr().err
    assert "judge: NME on swapped faces" in said
    assert "warning" not in said.lower()
    translator.card = {}
    generate(job(faces, tmp_path / "other", sheets=0), translator)
    assert "warning: this translator was never judged" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["transfer", "interpolate", "prior"])
def test_a_sheet_s_sidecar_says_what_every_tile_is(tmp_path, faces, mode):
    generate(job(faces, tmp_path / "made", mode=mode, sheet_size=4), PaintedTranslator())
    sidecar = json.loads((tmp_path / "made" / "sheets" / "sheet_00.json").read_text())
    sheet = read_image(tmp_path / "made" / "sheets" / "sheet_00.png").astype(float)
    by_id = {f.id: f for f in faces}
    for content, landmarks, row in zip(
        sidecar["structure_ids"], sidecar["landmarks"], sidecar["tiles_xy"], strict=True
    ):
        _, expected, _ = crop_sample(by_id[content], PaintedTranslator.crop)
        assert np.allclose(landmarks, expected, atol=1e-4)
        for style, (x, y) in zip(sidecar["style_ids"], row, strict=True):
            tile = sheet[y : y + SIZE, x : x + SIZE]
            if mode == "transfer":
                assert np.abs(np.median(tile, axis=(0, 1)) - read_image(by_id[style].image)[0, 0]).max() <= 1


# -------------------------------------------------------------------------------------------- with the real translator


@pytest.fixture(scope="module")
def untrained_run(tmp_path_factory) -> Path:
    return untrained_translator(tmp_path_factory.mktemp("run") / "translator")


@pytest.mark.slow  # 17 s; test_torchrun.py has what is not slow of it
def test_torchrun_with_two_processes_and_one_process_on_many_threads_make_the_same_bytes(
    tmp_path, faces, untrained_run
):
    def words(out: Path) -> list[str]:
        return [
            "generate", "--data", str(faces.folder), "--translator", str(untrained_run), "--out", str(out),
            "--styles-per-face", "4", "--faces-per-unit", "2", "--sheets", "2", "--sheet-size", "3",
            "--accelerator", "cpu",
        ]  # fmt: skip

    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert command_line(words(tmp_path / "one" / "made")) == 0
    finally:
        torch.set_num_threads(threads)
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--", "stylealign"]
    done = subprocess.run(
        [sys.executable, "-m", *launcher, *words(tmp_path / "two" / "made")],
        env={**os.environ, "PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert FaceDataset.open(tmp_path / "two" / "made").verify() == []


def test_a_refusal_keeps_finished_units_and_leaves_no_folder_where_there_are_none(tmp_path, faces):
    class Refusing(PaintedTranslator):
        def decode(self, features, style):
            try:
                return super().decode(features, style)
            except KeyboardInterrupt:
                raise UserError("no more") from None

    config = job(faces, tmp_path / "out", sheets=0)
    with pytest.raises(UserError, match="no more"):
        generate(config, Refusing(stop_after=0))
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="no more"):
        generate(config, Refusing(stop_after=6))  # one unit: two faces in three styles
    assert len(list((tmp_path / "out.partial" / "units").iterdir())) == 1
    generate(config, PaintedTranslator())
    generate(job(faces, tmp_path / "whole" / "out", sheets=0), PaintedTranslator())
    assert tree(tmp_path / "out") == tree(tmp_path / "whole" / "out")
