"""The whole job from one recipe, as a person would start it."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders.places import SRC
from stylealign.batches.crops import crop_sample
from stylealign.cli import main, recipes
from stylealign.config import from_dict, read_yaml
from stylealign.data.dataset import FaceDataset
from stylealign.data.image import image_size, read_image
from stylealign.errors import UserError
from stylealign.face import geometry
from stylealign.face.crop import CropConfig
from stylealign.jobs.pipeline import Pipeline, stages_of
from stylealign.training.weights import read_card

RECIPE = SRC / "stylealign" / "recipes" / "ci.yaml"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("e2e") / "out"
    assert main(["pipeline", str(RECIPE), "--out", str(folder)]) == 0
    return folder


def test_every_stage_leaves_its_folder_and_no_half_written_one(out: Path) -> None:
    assert {p.name for p in out.iterdir()} == {
        "data", "translator", "synthetic", "detectors", "evaluation", "pipeline.yaml", "report.html",
    }  # fmt: skip
    assert not list(out.rglob("*.partial"))
    assert {p.name for p in (out / "detectors").iterdir()} == {"real_s0", "real+synthetic_s0"}
    assert read_card(out / "translator", "translator")["judge"]["faces"] >= 2
    for path in (out / "data", out / "synthetic"):
        assert FaceDataset.open(path).verify() == []


def test_the_table_holds_both_arms_on_the_same_faces(out: Path) -> None:
    found = json.loads((out / "evaluation" / "evaluation.json").read_text())
    assert [arm["name"] for arm in found["arms"]] == ["real", "real+synthetic"]
    table = (out / "evaluation" / "evaluation.md").read_text()
    assert "| real |" in table
    assert "| real+synthetic |" in table
    rows = (out / "evaluation" / "per_face.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == FaceDataset.open(out / "data").select("test").ids()


def test_the_arms_differ_in_what_they_see_and_in_nothing_else(out: Path) -> None:
    real, both = (read_card(out / "detectors" / name)["config"] for name in ("real_s0", "real+synthetic_s0"))
    assert {k for k in real if real[k] != both[k]} == {"run", "synthetic"}
    assert [d["share"] for d in read_card(out / "detectors" / "real+synthetic_s0")["data"]] == [0.5, 0.5]


def test_the_report_is_a_page_without_outside_links(out: Path) -> None:
    page = (out / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"""(?:href|src)\s*=\s*["']?\s*(?:https?:)?//[^\s"'>]+""", page)
    assert not re.findall(r"https?://", page)
    assert "real+synthetic" in page


def test_synthetic_labels_are_the_content_faces_own_through_crop_from_source(out: Path) -> None:
    data, synthetic = FaceDataset.open(out / "data"), FaceDataset.open(out / "synthetic")
    faces = {sample.id: sample for sample in data}
    crop = read_card(out / "translator")["crop"]
    seen = set()
    for made in synthetic:
        assert made.provenance is not None
        content, style = faces[made.provenance.content_id], faces[str(made.provenance.style_id)]
        assert content.split == style.split == made.split == "train"
        assert content.id != style.id
        affine = np.array(made.provenance.crop_from_source)
        expected = geometry.apply(affine, content.landmarks).astype(np.float32)  # what the data set's floats can hold
        assert np.array_equal(made.landmarks, expected)
        _, landmarks, cut = crop_sample(content, from_dict(CropConfig, crop))
        assert np.array_equal(affine, cut)
        np.testing.assert_array_equal(np.asarray(landmarks, np.float32), expected)
        assert image_size(made.image) == (32, 32)
        seen.add((content.id, style.id))
    assert len(seen) == len(synthetic) == 2 * len(data.select("train"))
    # The pictures are of the translator, not of the data set.
    assert len({read_image(made.image).tobytes() for made in synthetic}) == len(synthetic)


def test_the_same_command_again_finds_everything_done_and_shows_the_table(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.name != "report.html"}
    assert main(["pipeline", str(RECIPE), "--out", str(out)]) == 0
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.name != "report.html"} == kept
    shown = capsys.readouterr()
    assert shown.err.count("nothing to do") == 4  # translator, synthetic faces, two detectors
    assert "real+synthetic" in shown.out


def test_another_recipe_in_the_same_folder_is_refused_in_a_sentence(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pipeline", str(RECIPE), "--out", str(out), "--synthetic-share", "0.25"]) == 2
    assert "synthetic_share: 0.5 there, 0.25 now" in capsys.readouterr().err
    (tmp_path / "mine.txt").write_text("kept")
    assert main(["pipeline", str(RECIPE), "--out", str(tmp_path)]) == 2
    assert "not empty and not a pipeline's folder" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_wrong_key_of_the_last_stage_is_refused_before_the_first_and_the_corrected_recipe_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("detector: {learning_rate: 1e-3}\n")
    assert main(["pipeline", str(recipe), "--out", str(tmp_path / "out")]) == 2
    assert "detector: unknown key 'learning_rate'; did you mean 'lr'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_arms_of_a_recipe_are_trained_before_the_translator_unless_they_need_its_faces(tmp_path: Path) -> None:
    arms = {"none": {}, "jitter": {"style": {"preset": "jitter"}}, "AVS": {"synthetic": "{out}/synthetic"}}
    config = Pipeline(
        out=tmp_path / "out", seeds=(0, 1), arms=arms, pseudo_label={"detectors": ["{out}/detectors/jitter_s0"]},
        translator={"judge": "{out}/detectors/none_s0"},
    )  # fmt: skip
    assert [stage.what for stage in stages_of(config)] == [
        "drawing faces",
        "training detectors: none, jitter, 2 seeds, equal updates",
        "labelling faces by trained detectors",
        "training the translator",
        "generating synthetic faces",
        "training detectors with what was made: AVS, 2 seeds, equal updates",
        "evaluating",
        "writing the report",
    ]


def test_an_arm_is_trained_after_whatever_its_values_or_the_detectors_name(tmp_path: Path) -> None:
    arms = {
        "tuned": {"init_from": "{out}/detectors/none_s1"}, "none": {},
        "judged": {"init_from": "{out}/translator/judge"},
        "twice": {"init_from": "{out}/detectors/tuned_s0"},
    }  # fmt: skip
    config = Pipeline(out=tmp_path / "out", seeds=(0, 1), arms=arms)
    assert [stage.what for stage in stages_of(config) if "detectors" in stage.what] == [
        "training detectors: none, 2 seeds, equal updates",
        "training detectors: tuned, 2 seeds, equal updates",
        "training detectors: twice, 2 seeds, equal updates",
        "training detectors with what was made: judged, 2 seeds, equal updates",
    ]
    styled = {"style": {"preset": "warp", "donors": ["{out}/pseudo"]}}
    none: dict[str, Any] = {"detector": styled, "arms": {"none": {}}}
    labelled = {"detectors": ["{out}/translator/judge"]}
    with pytest.raises(UserError, match=r"pseudo_label: .*translator is made by no stage before"):
        stages_of(Pipeline(out=tmp_path / "out", **none, pseudo_label=labelled))
    found = stages_of(Pipeline(out=tmp_path / "out", **none, pseudo_label={"detectors": ["compact"]}))
    assert found[1].what == "labelling faces by trained detectors"
    assert found[4].what == "training detectors with what was made: none, 1 seed, equal updates"


def test_a_stage_that_names_what_no_stage_before_it_makes_is_refused_before_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["pipeline", "tiny", "--seeds", "0", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert f"pseudo_label: {out}/detectors/mixture_s1 is made by no stage before; expected one of {out}/data, " in said
    assert f"{out}/detectors/mixture_s0" in said
    assert not out.exists()
    arms = {"none": {}, "AVS": {"synthetic": "{out}/pseudo"}}
    with pytest.raises(UserError, match=r"arm 'AVS': .*pseudo is made by no stage before"):
        stages_of(Pipeline(out=out, arms=arms))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").mkdir()  # one's own, put there meanwhile
    assert stages_of(Pipeline(out=out, arms={"none": {}, "AVS": {"synthetic": "{out}/mine"}}))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"arms": {"a": {}, "b": {"loop": {"steps": 7}}}}, "arm 'b' has 7 updates of 32 faces, arm 'a' 3000 of 32"),
        ({"arms": {"none": {"learning_rate": 1}}}, "detector: unknown key 'learning_rate'"),
        ({"pseudo_label": {"keep": 0.5}}, "pseudo_label: missing key detectors"),
        ({"report": {"heading": "x"}}, "report: unknown key 'heading'"),
    ],
)  # fmt: skip
def test_what_arms_and_stages_say_wrong_is_refused_before_the_first_stage(
    tmp_path: Path, values: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        stages_of(Pipeline(out=tmp_path / "out", **values))


def test_the_demo_s_recipe_can_be_read_and_accepts_no_gap(tmp_path: Path) -> None:
    values = read_yaml(recipes()["tiny"])
    assert "accept_gap" not in values["generate"]
    assert stages_of(from_dict(Pipeline, {**values, "out": str(tmp_path / "out")}))
