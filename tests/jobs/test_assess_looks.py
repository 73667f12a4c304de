"""What the translator report says of looks, against planted truths; then `assess` on the translator `warp`."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from builders.tiny import detector_job, drawn
from stylealign.batches.batch import Batch
from stylealign.batches.crops import CropCache
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.image import read_image
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.face.schema import FIVE
from stylealign.jobs.assess import job
from stylealign.jobs.assess import looks as eye
from stylealign.jobs.assess.images import FeatureNetwork
from stylealign.jobs.assess.job import Assess, main
from stylealign.jobs.assess.looks import Donors, frechet_distance, looks, masked, random_donors, sharpness
from stylealign.jobs.assess.measure import diversity
from stylealign.jobs.assess.subject import Subject
from stylealign.jobs.train_detector.job import main as train_detector
from stylealign.translators.judge import swap_partners
from stylealign.translators.warp.fit import WarpConfig

SIZE = 32


def faces(count: int, seed: int = 0) -> Batch:
    """Pictures with a colour and a grain of their own, inside and outside of five landmarks."""
    rng = np.random.default_rng(seed)
    points = torch.tensor([[8.0, 10], [24, 10], [16, 16], [10, 24], [22, 24]]).expand(count, -1, -1).clone()
    image = torch.from_numpy(rng.uniform(-0.7, 0.7, (count, 3, 1, 1)) + rng.normal(0, 0.1, (count, 3, SIZE, SIZE)))
    inner = torch.from_numpy(rng.uniform(-0.7, 0.7, (count, 3, 1, 1)))
    image[..., 10:24, 10:22] = inner.expand(count, 3, 14, 12)
    return Batch(
        image.float().clamp(-1, 1), points, torch.ones(count, 5, dtype=torch.bool), torch.zeros(count, 2, 3),
        torch.arange(count), torch.ones(count),
    )  # fmt: skip


def network() -> FeatureNetwork:
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(3, 8, 3).requires_grad_(False)
    return FeatureNetwork("a random convolution", lambda x: [layer(x).relu()], SIZE)


def test_the_frechet_distance_is_that_of_two_normal_distributions() -> None:
    x = torch.randn(400, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(x, x + 2) == pytest.approx(12, abs=1e-6)  # 2 in each of three dimensions
    # Three times as wide: A + 9 A - 2 (9 A^2)^1/2 = 4 A.
    centred = x - x.mean(0)
    assert frechet_distance(centred, 3 * centred) == pytest.approx(4 * float(torch.cov(x.T).trace()), abs=1e-6)


def test_a_blurred_picture_is_less_sharp_and_a_plain_one_not_at_all() -> None:
    image = faces(3).image
    soft = torch.nn.functional.avg_pool2d(image, 3, 1, 1, count_include_pad=False)
    assert bool((sharpness(soft) < 0.6 * sharpness(image)).all())
    assert float(sharpness(torch.zeros(1, 3, SIZE, SIZE)).max()) < 1e-6


def test_face_and_surroundings_are_apart() -> None:
    batch = faces(2)
    face, rest = (masked(batch.image, batch.landmarks, inside) for inside in (True, False))
    assert bool(((face == 0) | (rest == 0)).all())
    assert torch.equal(face[..., 14:18, 14:18], batch.image[..., 14:18, 14:18])
    assert torch.equal(rest[..., :4, :], batch.image[..., :4, :])


def test_who_gives_whom_a_style() -> None:
    batch = faces(10)
    own = random_donors(batch, None, 3, seed=4)
    assert own.partners.tolist() == swap_partners(10, 4).tolist()
    assert not any(i in row for i, row in enumerate(own.others))
    others = random_donors(batch, faces(25, seed=1), 3, seed=4)
    assert len(set(others.partners.tolist())) == 10, "each once while they last"
    assert others.others.shape == (10, 3)


def test_no_face_that_is_among_the_donors_gives_itself_a_style() -> None:
    batch = faces(10)
    for count, where in (
        (10, np.arange(10)),
        (25, np.arange(5, 15)),
        (2, np.array([0, 1] + [-1] * 8)),
        (2, np.zeros(10)),
    ):
        for seed in range(20):
            same = where.astype(np.int64)
            found = random_donors(batch, faces(count, seed=1), 3, seed, same)
            assert not (found.partners == same).any()
            assert not ((found.others == same[:, None]) & (found.others >= 0)).any()
            given = [row[row >= 0].tolist() for row in found.others]
            assert [len(set(row)) for row in given] == [min(3, count - (j >= 0)) for j in same]
            if count >= 10:
                assert len(set(found.partners.tolist())) == 10, "each once while they last"


def test_donors_that_are_the_faces_themselves_are_known_and_one_donor_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = drawn(tmp_path / "data", 40)
    train_detector(detector_job(tmp_path / "judge", data.folder, {"steps": 1}))
    values = {
        "data": data.folder, "split": "train", "judge": tmp_path / "judge", "styles": 2, "sheet_size": 2,
        "accelerator": "cpu", "out": tmp_path / "out", "arm": "adain",
    }  # fmt: skip
    write_dataset(tmp_path / "one", [data[0]], schema=data.schema, name="one")
    with pytest.raises(UserError, match="one: 1 labelled face to give styles, expected at least 2"):
        main(Assess(**values, donors=tmp_path / "one"))
    given: list[Donors] = []

    def chosen(*arguments) -> Donors:
        given.append(random_donors(*arguments))
        return given[-1]

    monkeypatch.setattr(job, "random_donors", chosen)
    main(Assess(**values, donors=data.folder, donor_split="train"))
    itself = np.arange(len(given[0].partners))
    assert not (given[0].partners == itself).any()
    assert not (given[0].others == itself[:, None]).any()


def test_who_shows_the_donor_is_found_and_who_shows_the_content_is_not() -> None:
    batch, others = faces(40), faces(80, seed=1)
    donors = random_donors(batch, others, 3, seed=0)
    perfect = looks(batch, donors, others.image[torch.from_numpy(donors.partners)], network(), 30, seed=0)
    for part in ("whole", "face", "surroundings"):
        assert perfect["kept"][part]["translator"]["top1"] == 1.0
        assert perfect["kept"][part]["floor"]["top1"] < 0.2
    assert perfect["sharpness"] == pytest.approx(1.0)
    assert perfect["distances"]["faces"] == 40
    assert perfect["distances"]["translator"] == perfect["distances"]["floor"]
    idle = looks(batch, donors, batch.image, network(), 30, seed=0)
    assert idle["kept"]["whole"]["translator"] == idle["kept"]["whole"]["floor"]
    # A head of one's own on the donor's ground: the donor is found by the ground alone.
    inside = masked(torch.ones_like(batch.image), batch.landmarks, False) == 0
    pasted = torch.where(inside, batch.image, others.image[torch.from_numpy(donors.partners)])
    mixed = looks(batch, donors, pasted, network(), 30, seed=0)["kept"]
    assert mixed["surroundings"]["translator"]["top1"] == 1.0
    assert mixed["face"]["translator"]["top1"] < 0.3
    grey = looks(batch, donors, torch.zeros_like(batch.image), network(), 30, seed=0)
    assert grey["distances"]["translator"]["fid"] > perfect["distances"]["translator"]["fid"]
    few = Donors(*donors._replace(partners=donors.partners[:10], others=donors.others[:10]))
    assert looks(faces(10), few, batch.image[:10], network(), 30, seed=0)["distances"] is None


def test_variety_is_of_faces_that_have_every_style_asked_for() -> None:
    batch, others = faces(5), faces(12, seed=1)
    copied = Subject("copies", "", FIVE, CropConfig(size=SIZE), lambda image, points, style, style_points: style)
    rows = np.array([[0, 1, 2], [3, -1, -1], [4, 5, 6], [7, 8, -1], [9, 10, 11]])
    given = Donors(others, rows[:, 0], rows, False, np.empty(0, np.int64))
    found, (face, donors, _) = diversity(copied, batch, network(), 3, 0, given)
    assert (found["styles"], found["translator"]["sets"]) == (3, 3)
    assert found["translator"]["mean"] == pytest.approx(found["real"]["mean"], abs=1e-6)
    assert face in (0, 2, 4)
    assert (donors == rows[face]).all()
    few = given._replace(others=np.array([[0, 1, 2], [3, -1, -1], [4, 5, -1], [7, 8, -1], [9, -1, -1]]))
    found, _ = diversity(copied, batch, network(), 3, 0, few)
    assert (found["styles"], found["translator"]["sets"]) == (2, 3)


def test_the_verb_says_of_warp_what_it_keeps_and_how_many_pairs_it_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = drawn(tmp_path / "data", 40)
    train_detector(detector_job(tmp_path / "judge", data.folder, {"steps": 2}))
    loose = WarpConfig(stretch=10.0, stretched=0.1, apart=0.1)  # drawn faces are few, and differ more than people do
    monkeypatch.setattr(eye, "WarpConfig", lambda: loose)
    values = {
        "translator": Path("warp"), "data": data.folder, "split": "train", "judge": tmp_path / "judge", "styles": 2,
        "sheet_size": 2, "accelerator": "cpu",
    }  # fmt: skip
    with pytest.raises(UserError, match="translator warp has no run to write into: expected --out"):
        main(Assess(**values))
    main(Assess(**values, out=tmp_path / "out"))
    found = json.loads((tmp_path / "out" / "assessment.json").read_text(encoding="utf-8"))
    assert found["translator"]["model"] == "warp"
    assert found["held_out"] is True
    assert found["looks"]["kept"]["whole"]["translator"]["top1"] > 0.5
    assert 0 < found["looks"]["pairs"]["refused"] < found["looks"]["pairs"]["tried"]
    assert found["reconstruction"]["translator"]["psnr"]["mean"] > 30, "a face on its own landmarks is itself"
    text = (tmp_path / "out" / "assessment.md").read_text(encoding="utf-8")
    assert "What an eye sees" in text
    assert "pairs that cannot be drawn" in text
    size = CropCache(data.select("train"), CropConfig(size=32)).size
    for name in ("pairs", "worst", "swaps", "styles"):
        assert min(read_image(tmp_path / "out" / "sheets" / f"{name}.png").shape[:2]) >= size
