"""Whether a face was answered the right way up, told by the network itself.

A detector learns that faces are mirror images of themselves: of an upright face, its answers on the crop and on the
mirrored crop agree. Of a face that stands on its head or lies on its side they do not, and agree better on the crop
turned upright. Knows the network's interface; no finders.
"""

from collections.abc import Sequence

import numpy as np

from stylealign.face import geometry
from stylealign.face.geometry import face_size, mirrored_back
from stylealign.face.orientation import map_box
from stylealign.predicting.candidates import TURNS, Candidate, turned
from stylealign.predicting.landmarks import cut_crops, find_landmarks
from stylealign.predicting.network import LandmarkNetwork
from stylealign.predicting.predicted_face import Face

# Mean distance of the two answers, in face sizes: up to AGREES a face is upright without a second look; another turn is
# believed where its own is at most CERTAIN and BETTER times that of the face as it was answered. Measured with the
# shipped detector on 300-W's common test set and its pictures turned: upright 0.004 to 0.024 (median 0.008, 1 % above
# AGREES), upside down 0.020 to 0.23 (0.062), on its side 0.03 to 0.26 (0.07). No upright face of 541 was doubted; of
# 277 upside down and 186 on their sides 276 and 186 were told; half of the faces rolled by 60 degrees are called so.
AGREES, CERTAIN, BETTER = 0.02, 0.03, 0.6


def mirror_disagreement(
    network: LandmarkNetwork, candidates: Sequence[Candidate], faces: Sequence[Face], batch_size: int = 16
) -> np.ndarray:
    """(n,) mean distance, in face sizes, of each face's landmarks from the answer on its last crop's mirror image.

    `faces` are the candidates' answers without mirror averaging. The mark-up must know mirror twins.
    """
    order, apart = network.schema.flip_permutation, []
    for first in range(0, len(faces), batch_size):
        some = faces[first : first + batch_size]
        last = [
            c._replace(box=map_box(c.photo.view_from_source, f.box))
            for c, f in zip(candidates[first : first + batch_size], some, strict=True)
        ]
        crops, affines = cut_crops(network, last)
        found, _ = network(np.ascontiguousarray(crops[..., ::-1]))
        back = mirrored_back(found, crops.shape[-1], order, network.lean)
        for face, affine, mirrored in zip(some, affines, back, strict=True):
            plain = geometry.apply(affine, face.landmarks)
            apart.append(np.linalg.norm(plain - mirrored, axis=1).mean() / face_size(plain))
    return np.array(apart)


def right_way_up(
    network: LandmarkNetwork,
    candidates: Sequence[Candidate],
    faces: Sequence[Face],
    refine: int = 1,
    batch_size: int = 16,
) -> list[int | None]:
    """Degrees clockwise by which each face has to be turned to be upright: 0 as it was answered; None: not known.

    Args:
        network: of a mark-up with mirror twins.
        candidates: what it was asked about.
        faces: its answers to them, without mirror averaging.
        refine: rounds of cutting again in other turns.
        batch_size: crops at a time.
    """
    plain = mirror_disagreement(network, candidates, faces, batch_size)
    doubtful = [i for i, apart in enumerate(plain) if apart > AGREES]
    best: list[int | None] = [0] * len(faces)
    others = np.full((len(faces), len(TURNS)), np.inf)
    for k, degrees in enumerate(TURNS[1:], 1):
        again = [turned(candidates[i], degrees) for i in doubtful]
        found = find_landmarks(network, again, refine, False, batch_size)
        others[doubtful, k] = mirror_disagreement(network, again, found, batch_size)
    for i in doubtful:
        k = int(others[i].argmin())
        if others[i, k] <= min(CERTAIN, BETTER * plain[i]):
            best[i] = TURNS[k]
        elif plain[i] > BETTER * others[i, k]:
            best[i] = None
    return best
