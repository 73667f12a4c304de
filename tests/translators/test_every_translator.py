"""The contract (builders/translator_contract.py) for every entry of TRANSLATORS, at its tiny size."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from builders import translator_contract as contract
from builders.translator_contract import USE, job, prepared, saved
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.errors import UserError
from stylealign.face.schema import LandmarkSchema
from stylealign.jobs.train_translator.job import main
from stylealign.training.weights import read_card
from stylealign.translators import TRANSLATORS, build_translator, trained_names
from stylealign.translators.loaded import load_translator


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("translators"))


@pytest.fixture(scope="module")
def trained(here: Path) -> dict[str, Path]:
    for name in trained_names():
        main(job(here, name, here / name))
    return {name: here / name for name in trained_names()}


@pytest.mark.parametrize("clause", USE, ids=lambda clause: clause.__name__)
@pytest.mark.parametrize("name", TRANSLATORS)
def test_every_translator(name: str, clause: Callable[[str], None]) -> None:
    clause(name)


@pytest.mark.parametrize("name", trained_names())
def test_every_translator_comes_back_from_its_folder(name: str, tmp_path: Path) -> None:
    contract.comes_back_from_its_folder_the_same(name, tmp_path / "run")


@pytest.mark.parametrize("name", trained_names())
def test_every_translator_s_run(name: str, here: Path, trained: dict[str, Path], tmp_path: Path) -> None:
    contract.a_run_leaves_what_every_run_leaves(name, trained[name])
    contract.a_killed_training_continued_is_bitwise_the_same(name, here, trained[name], tmp_path / "killed")


@pytest.mark.parametrize("name", trained_names())
def test_generate_works_with_every_translator(name: str, here: Path, trained: dict[str, Path], tmp_path: Path) -> None:
    contract.generate_makes_the_same_pictures_however_the_work_is_cut(name, here, trained[name], tmp_path)


# --------------------------------------------------------------------------------------------------------------------
# What is refused


def test_a_card_of_another_translator_is_refused(tmp_path: Path) -> None:
    def claimed(name: str, model: str) -> Path:
        folder = saved(name, tmp_path / f"{name}_{model}")
        (folder / "card.json").write_text(json.dumps({**read_card(folder), "model": model}))
        return folder

    with pytest.raises(UserError, match=r"card\.json: unknown translator 'pix2pix'; known: vunet, spade, bilateral"):
        load_translator(claimed("spade", "pix2pix"))
    for name in trained_names():
        for model in TRANSLATORS.keys() - {name}:
            with pytest.raises(UserError):
                load_translator(claimed(name, model))


def test_a_name_that_is_not_in_the_table_is_refused() -> None:
    with pytest.raises(UserError, match="unknown translator 'pix2pix'; known: vunet, spade, bilateral"):
        build_translator("pix2pix", None, 32, contract.STRUCTURE, contract.FIVE)


def test_more_faces_of_another_mark_up_are_refused_before_anything_is_trained(here: Path, tmp_path: Path) -> None:
    samples = list(FaceDataset.open(here / "more"))
    other = LandmarkSchema(name="other", num_points=5)
    write_dataset(tmp_path / "other", samples, schema=other, name="other")
    with pytest.raises(UserError, match=r"other: holds other \(5 points\), but .* holds five"):
        main(job(here, "spade", tmp_path / "run", extra=(tmp_path / "other",)))
    assert not (tmp_path / "run.partial").exists()
    with pytest.raises(ValueError, match=r"extra_share is 1\.0"):
        job(here, "spade", tmp_path / "run", extra_share=1.0)
