"""A data set in a few printed lines: what `prepare` and `check` say of one."""

from collections import Counter

import numpy as np

from stylealign.data.dataset import FaceDataset
from stylealign.errors import UserError, counted
from stylealign.progress import draw_table, open_console, say


def whole_faces(faces: FaceDataset, what: str) -> FaceDataset:
    """The labelled faces of a view all of whose landmarks count as labels; says how many are left out of `what`.

    Raises UserError where none is left.
    """
    kept = [i for i in range(len(faces)) if all(trust > 0 for trust in faces.head(i).get("point_trust") or ())]
    if len(kept) == len(faces):
        return faces
    if not kept:
        raise UserError(f"{faces.folder}: every face lacks some of its landmarks, expected whole ones for {what}")
    say(f"{what}: {len(faces) - len(kept)} of {counted(len(faces), 'face')} left out for want of some landmarks")
    return faces.take(kept)


def describe(dataset: FaceDataset) -> None:
    """Print a data set's counts, a column a split and a row a subset, and how large its faces are."""
    faces: Counter[str] = Counter()
    labelled: Counter[str] = Counter()
    said: Counter[str] = Counter()
    subsets: dict[str, Counter[str]] = {}
    sides, boxes = [], 0
    for sample in dataset:
        faces[sample.split] += 1
        labelled[sample.split] += sample.landmarks is not None
        boxes += sample.box_xyxy is not None
        for name, on in sample.attributes.items():
            subsets.setdefault(name, Counter())[sample.split] += on
            said[name] += 1
        if sample.landmarks is not None and not sample.missing_points.all():
            sides.append(float(np.ptp(sample.landmarks[~sample.missing_points], axis=0).max()))
    # flags that stand on every face keep the data set's order; what lists added comes after them, by name
    flags = [name for name in dataset[0].attributes if said[name] == len(dataset)]
    ordered = {name: subsets[name] for name in (*flags, *sorted(subsets.keys() - flags))}
    counts = {"faces": faces, "labelled": labelled, **ordered}
    rows = [(name, *(f"{of[split]:,}" for split in faces), f"{of.total():,}") for name, of in counts.items()]
    title = f"{dataset.name}: {dataset.schema.name}, {counted(dataset.schema.num_points, 'landmark')}"
    console = open_console()
    draw_table(console, title, ("", *faces, "all"), rows, line_after=1)
    if sides:
        low, middle, high = np.percentile(sides, (5, 50, 95))
        lines = (
            f"landmark boxes: longer side {middle:.0f} px (5 % below {low:.0f}, 5 % above {high:.0f}); "
            f"own boxes: {boxes:,} of {counted(len(dataset), 'face')}",
            f"crops are 1.4 x the landmark box unless you say otherwise (--crop.scale, --crop.box): {1.4 * middle:.0f} "
            "px here, so a --crop.size above that only enlarges; results with different crops cannot be compared",
        )
        console.print("\n".join(lines), highlight=False, soft_wrap=True)
