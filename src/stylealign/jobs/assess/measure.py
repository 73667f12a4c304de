"""Every figure of the translator report on one set of faces. Tensors in, plain values out; knows no files."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from stylealign.batches.batch import Batch
from stylealign.evaluation import metrics
from stylealign.jobs.assess import images as likeness
from stylealign.jobs.assess import style
from stylealign.jobs.assess.drawn import distance_to_truth
from stylealign.jobs.assess.images import FeatureNetwork, levels_of
from stylealign.jobs.assess.looks import Donors, looks, random_donors
from stylealign.jobs.assess.probes import aligned_shapes, poses, probe
from stylealign.jobs.assess.structure import gap_matrix, structure_errors, structure_gap
from stylealign.jobs.assess.subject import Subject, codes, swapped
from stylealign.translators.judge import answers, swap_partners

ACTIVE = 0.01  # variance of a posterior mean over the data above which its unit is in use (Burda et al. 2016)
DIVERSITY_SETS = 16
_GALLERY, _DIVERSE, _SHEET = 21, 22, 23  # streams of random numbers


class Pictures(NamedTuple):
    """What the report shows."""

    sheet: np.ndarray
    """(n,) positions of the faces of the swap matrix"""
    matrix: Tensor
    """(n, n, 3, S, S): [i, j] has structure i and style j"""
    partners: np.ndarray
    """(N,) the donor of each face's swap"""
    swapped: Tensor
    """(N, 3, S, S) each face in its donor's style"""
    reconstructed: Tensor
    """(N, 3, S, S) each face in its own style"""
    varied: tuple[int, np.ndarray, Tensor]
    """a face, the k donors of its styles, and (k, 3, S, S) the pictures: the first of the diversity figure"""
    donors: Tensor
    """(N, 3, S, S) the donor of each face's swap"""
    errors: np.ndarray
    """(N,) the judge's NME of each face's swap"""


def _interval(values: Tensor, seed: int) -> dict[str, float]:
    return metrics.bootstrap_mean_interval(values.double().numpy(), seed)._asdict()


def reconstruction(batch: Batch, own: Tensor, network: FeatureNetwork, seed: int) -> dict[str, Any]:
    """Likeness of each face to itself drawn from its own two codes, and as a floor to a stranger's photograph."""
    stranger = batch.image[torch.from_numpy(swap_partners(len(own), seed))]

    def of(images: Tensor) -> dict[str, Any]:
        return {
            "psnr": _interval(likeness.psnr(images, batch.image), seed),
            "ssim": _interval(likeness.ssim(images, batch.image), seed),
            "feature_distance": _interval(likeness.distances(network, images, batch.image), seed),
        }

    return {"faces": len(own), "translator": of(own), "stranger": of(stranger)}


def retrieval(
    subject: Subject, batch: Batch, network: FeatureNetwork, gallery: int, seed: int, given: Donors | None = None
) -> dict[str, Any]:
    """Is the donor the nearest in style? Faces and donors are different people: chance is 1 in the number of donors.

    Beside the translator: the content given back (a floor, near chance) and the donor itself cut a little differently
    (a ceiling). `given`: donors that are not the faces themselves; each gives one face its style here.
    """
    if given is None or given.own:
        count, others = min(gallery, len(batch.image) // 2), batch
        order = torch.from_numpy(np.random.default_rng((seed, _GALLERY)).permutation(len(batch.image))[: 2 * count])
        contents, donors = order[:count], order[count:]
    else:
        _, first = np.unique(given.partners, return_index=True)
        contents, others = torch.from_numpy(np.sort(first)[:gallery]), given.batch
        donors, count = torch.from_numpy(given.partners)[contents], len(contents)
    shown = {
        "translator": swapped(subject, batch, contents, donors, others),
        "floor": batch.image[contents],
        "ceiling": style.recropped(others.image[donors], seed),
    }
    features: dict[str, Callable[[Tensor], Tensor]] = {
        "colour": lambda images: style.style_statistics(images)[:, style.COLOURS],
        "statistics": style.style_statistics,
        "network": lambda images: style.network_statistics(levels_of(network, images)),
    }
    result: dict[str, Any] = {"donors": count}
    for name, feature in features.items():
        real = feature(others.image[donors])
        result[name] = {key: style.retrieval(feature(images), real) for key, images in shown.items()}
    return result


def leakage(subject: Subject, batch: Batch, seed: int) -> dict[str, Any]:
    """What the style code knows of the landmarks, and the structure code of the style.

    Beside them, what a picture's style statistics know of the landmarks and the landmarks of the statistics: so much
    the two have in common without any translator.
    """
    landmarks = batch.landmarks.double().numpy()
    shape, pose = aligned_shapes(landmarks), poses(landmarks)
    looks = style.style_statistics(batch.image).numpy()
    looks = (looks - looks.mean(axis=0)) / looks.std(axis=0).clip(1e-9)
    found: dict[str, Any] = {"faces": len(landmarks)}
    if subject.style is not None:
        code = codes(subject.style, batch, pooled=False).numpy()
        found["shape_from_style"] = probe(code, shape, seed)
        found["pose_from_style"] = probe(code, pose, seed)
    if subject.structure is not None:
        code = codes(subject.structure, batch, pooled=True).numpy()
        found["style_from_structure"] = probe(code, looks, seed)
    found["shape_from_statistics"] = probe(looks, shape, seed)
    found["pose_from_statistics"] = probe(looks, pose, seed)
    found["style_from_landmarks"] = probe(landmarks.reshape(len(landmarks), -1), looks, seed)
    return found


def latent(subject: Subject, batch: Batch) -> dict[str, Any]:
    """How many units of the style code vary over the faces, in how many directions, and a VAE's KL in nats a face.

    Of a VAE the unit is the posterior mean. `directions` is the participation ratio (sum l)^2 / sum l^2 of the code's
    covariance eigenvalues l: a code may spread little over many units, each of which then counts as active.
    """
    if subject.style is None:
        return {}
    code = codes(subject.style, batch, pooled=False).double()
    active = int((code.var(0) > ACTIVE).sum())
    centred = code - code.mean(0)
    gram = centred @ centred.T  # its eigenvalues are those of the covariance, times N
    directions = float(gram.trace() ** 2 / gram.square().sum()) if active else 0.0
    found: dict[str, Any] = {"units": code.shape[1], "active": active, "threshold": ACTIVE, "directions": directions}
    if subject.nats is not None:
        parts = torch.arange(len(code)).split(16)
        nats = sum(len(i) * subject.nats(batch.image[i], batch.landmarks[i]) for i in parts)
        found["kl_nats"] = nats / len(code)
    return found


def diversity(
    subject: Subject, batch: Batch, network: FeatureNetwork, k: int, seed: int, given: Donors | None = None
) -> tuple[dict[str, Any], tuple[int, np.ndarray, Tensor]]:
    """Mean feature distance within k styles of one face, and within k real faces; and the first set.

    Of faces that have k donors; where fewer than 2 have, of those with most, and k is what these have.
    """
    faces = np.arange(len(batch.image))
    if given is None or given.own:
        k = min(k, len(batch.image) - 1)
    else:
        count = (given.others >= 0).sum(axis=1)
        k = int(np.sort(count)[-2:][0])
        faces = faces[count >= k]
    rng = np.random.default_rng((seed, _DIVERSE))
    made: list[list[Tensor]] = []
    real: list[list[Tensor]] = []
    first = (0, np.empty(0, dtype=np.int64), torch.empty(0))
    for face in rng.permutation(faces)[:DIVERSITY_SETS]:
        if given is None or given.own:
            source, others = batch, np.delete(np.arange(len(batch.image)), face)
            donors = torch.from_numpy(rng.choice(others, k, replace=False))
        else:
            source, donors = given.batch, torch.from_numpy(given.others[face, :k])
        images = swapped(subject, batch, torch.full((k,), int(face)), donors, source)
        first = first if made else (int(face), donors.numpy(), images)
        made.append(levels_of(network, images))
        real.append(levels_of(network, source.image[donors]))
    return {"styles": k, "translator": style.diversity(made), "real": style.diversity(real)}, first


def kernel_distance(batch: Batch, made: Tensor, network: FeatureNetwork, seed: int) -> dict[str, Any]:
    """KID between swapped and real faces of different people; the floor is between two halves of the real ones.

    Both have the same n. The features are the channel means of the coarsest level, each picture's scaled to the same
    length (the root of their number): a detector's features have heavy tails, and to the third power one face would
    outweigh all others.
    """
    order = torch.from_numpy(np.random.default_rng((seed, 5)).permutation(len(made)))
    half = len(made) // 2
    one, other = order[:half], order[half : 2 * half]
    real, drawn = (levels_of(network, x)[-1].double().mean((2, 3)) for x in (batch.image, made))
    real, drawn = (torch.nn.functional.normalize(x, dim=1) * x.shape[1] ** 0.5 for x in (real, drawn))
    value, sd = likeness.kid(drawn[one], real[other], seed)
    floor, floor_sd = likeness.kid(real[one], real[other], seed)
    return {"faces": half, "value": value, "sd": sd, "floor": floor, "floor_sd": floor_sd}


def measure(
    subject: Subject,
    batch: Batch,
    judge: torch.nn.Module,
    judge_size: int,
    network: FeatureNetwork,
    *,
    seed: int = 0,
    gallery: int = 100,
    styles: int = 8,
    sheet: int = 6,
    donors: Donors | None = None,
    eye: FeatureNetwork | None = None,
    truth: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> tuple[dict[str, Any], Pictures]:
    """Every figure of a translator on a batch of at least 4 faces, all labelled, on the CPU.

    Args:
        subject: what is assessed.
        batch: faces cut as the subject's crop says.
        judge: (B, 3, judge_size, judge_size) -> an output with `landmarks`; it has never seen the subject's pictures.
        judge_size: side of its input, px.
        network: in whose features pictures are compared.
        seed: draws partners, galleries, halves.
        gallery: donors of the retrieval.
        styles: pictures of one face in the diversity figure.
        sheet: side of the swap matrix.
        donors: who gives whom a style; None: the faces to each other, by chance.
        eye: in whose features the looks are compared; None: `network`.
        truth: (contents, donors) -> (n, S, S, 3) uint8 true answers of swaps, where they can be had.
    """
    seconds: dict[str, float] = {}
    started = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal started
        now = time.perf_counter()
        seconds[name], started = round(now - started, 2), now

    everyone = torch.arange(len(batch.image))
    given = random_donors(batch, None, styles, seed) if donors is None else donors
    partners = given.partners
    landmarks = batch.landmarks.double().numpy()
    made = swapped(subject, batch, everyone, torch.from_numpy(partners), given.batch)
    lap("swaps")
    own = swapped(subject, batch, everyone, everyone)
    found: dict[str, Any] = {"reconstruction": reconstruction(batch, own, network, seed)}
    lap("reconstruction")
    on_real, on_made = (answers(judge, images, judge_size) for images in (batch.image, made))
    found["structure"] = structure_gap(
        on_real, on_made, landmarks,
        given.batch.landmarks.double().numpy()[partners], subject.schema, seed,
    )  # fmt: skip
    chosen = (
        given.sheet
        if len(given.sheet)
        else np.random.default_rng((seed, _SHEET)).permutation(len(landmarks))[: min(sheet, len(landmarks))]
    )
    n, index = len(chosen), torch.from_numpy(chosen)
    matrix = swapped(subject, batch, index.repeat_interleave(n), index.repeat(n))
    on_matrix = answers(judge, matrix, judge_size).reshape(n, n, -1, 2)
    found["matrix"] = {
        "faces": chosen.tolist(),
        "gap": gap_matrix(on_real[chosen], on_matrix, landmarks[chosen], subject.schema).tolist(),
    }
    lap("structure")
    found["retrieval"] = retrieval(subject, batch, network, gallery, seed, given)
    lap("retrieval")
    found["leakage"] = leakage(subject, batch, seed)
    found["latent"] = latent(subject, batch)
    lap("leakage")
    found["diversity"], varied = diversity(subject, batch, network, styles, seed, given)
    found["kid"] = kernel_distance(batch, made, network, seed)
    lap("diversity and KID")
    found["looks"] = looks(batch, given, made, eye or network, gallery, seed)
    lap("looks")
    theirs = given.batch.image[torch.from_numpy(partners)]
    found["distance"] = {
        name: {
            "to_style": apart(made, theirs),
            "to_content": apart(made, batch.image),
            "content_to_style": apart(batch.image, theirs),
        }
        for name, apart in (("colour", style.colour_distance), ("texture", style.texture_distance))
    }
    if truth is not None:
        true = truth(everyone.numpy(), partners)
        shown = {"translator": made, "content": batch.image, "donor": theirs}
        found["drawn"] = distance_to_truth(shown, true, landmarks, network)
        lap("truth")
    found["seconds"] = seconds
    errors = structure_errors(on_made, landmarks, subject.schema)
    return found, Pictures(chosen, matrix.unflatten(0, (n, n)), partners, made, own, varied, theirs, errors)
