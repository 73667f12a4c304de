"""The tables of a translator report, for Markdown and HTML alike, from its assessment.json. Computes nothing."""

from collections.abc import Mapping
from typing import Any

from stylealign.errors import counted
from stylealign.evaluation.tables import Table

AIMS = {"gap": 0.003, "top1": 0.60, "r2": 0.10, "kid": 0.020}
DIGITS = {"psnr": ".2f", "ssim": ".3f", "feature_distance": ".4f"}


def _points(interval: Mapping[str, float]) -> str:
    return f"{100 * interval['mean']:+.2f} ({100 * interval['low']:+.2f} to {100 * interval['high']:+.2f})"


def _met(value: float, aim: float, most: bool = True) -> str:
    return "met" if (value <= aim if most else value >= aim) else "missed"


def protocol(found: Mapping[str, Any]) -> str:
    """Data, faces, held out or not, judge and feature network."""
    data, held = found["data"], found["held_out"]
    seen = {
        True: "faces held out of its training",
        False: "NOT held out: the translator was trained on this split",
        None: "whether the translator was trained on faces of this data set is not known",
    }
    trained = seen[held] if found.get("learns", True) else "it has nothing to learn"
    return (
        f"{data['name']}, split {data['split']}{', subset ' + data['subset'] if data['subset'] else ''}, "
        f"{counted(data['faces'], 'face')}: {trained}. Judge: {found['judge']['name']}. Features: "
        f"{found['features']}. Seed {found['seed']}."
    )


def summary(found: Mapping[str, Any]) -> Table:
    """What the report says first, beside the aims."""
    gap, retrieved, leakage = found["structure"]["gap"], found["retrieval"], found["leakage"]
    rows: list[tuple[str, ...]] = [
        ("structure gap, NME points", _points(gap), "at most +0.30", _met(gap["mean"], AIMS["gap"]))
    ]
    top = retrieved["statistics"]["translator"]["top1"]
    rows.append(
        (
            f"donor nearest in style, of {retrieved['donors']}",
            f"{top:.0%}",
            "at least 60 %",
            _met(top, AIMS["top1"], False),
        )
    )
    for key, what in (
        ("shape_from_style", "shape read from the style code, R²"),
        ("style_from_structure", "style read from the structure code, R²"),
    ):
        if key in leakage:
            rows.append((what, f"{leakage[key]['r2']:.2f}", "at most 0.10", _met(leakage[key]["r2"], AIMS["r2"])))
    note = protocol(found)
    if found["data"]["faces"] < 100:
        note += " With fewer than 100 faces, R², KID and the share of nearest donors say little."
    if gap["mean"] < -0.005:
        note += " A gap well below zero is no merit: swapped faces are easier than real ones, a sign of lost variety."
    return Table("In short", ("figure", "found", "aim", ""), rows, note)


def tables(found: Mapping[str, Any]) -> list[Table]:
    """Every table of an assessment."""
    return [
        summary(found),
        _structure(found["structure"]),
        _reconstruction(found["reconstruction"]),
        _retrieval(found["retrieval"]),
        _leakage(found["leakage"], found.get("latent") or {}),
        _variety(found),
        *([_looks(found["looks"], found.get("without_donor", 0))] if "looks" in found else []),
        *([_drawn(found["drawn"])] if "drawn" in found else []),
    ]


def _structure(s: Mapping[str, Any]) -> Table:
    header = ("", "real %", "swapped %", "gap, points (95 % interval)")
    rows: list[tuple[str, ...]] = [
        ("all points", f"{100 * s['real_nme']:.2f}", f"{100 * s['swap_nme']:.2f}", _points(s["gap"]))
    ]
    rows += [(p, f"{100 * v['real']:.2f}", f"{100 * v['swap']:.2f}", _points(v["gap"])) for p, v in s["parts"].items()]
    rows.append(("faces above 10 %", f"{s['real_share_above_10']:.1%}", f"{s['share_above_10']:.1%}", ""))
    note = (
        f"NME ({s['denominator']}) of the judge on {counted(s['faces'], 'face')} and on the same faces in a stranger's "
        "style, against the label. Against the landmarks of the face that gave the style the swapped ones have "
        f"{s['style_nme']:.2%}: below the figure against the label, the style code would carry the layout. The "
        "intervals are bootstraps over faces of the paired difference."
    )
    return Table("Structure: does the swapped face keep its landmarks?", header, rows, note)


def _reconstruction(r: Mapping[str, Any]) -> Table:
    def row(name: str, v: Mapping[str, Any]) -> tuple[str, ...]:
        return (name, *(f"{v[figure]['mean']:{form}}" for figure, form in DIGITS.items()))

    note = (
        f"{counted(r['faces'], 'face')} drawn from their own structure in their own style; a stranger's photograph as "
        "the floor. A leaking translator does best here."
    )
    return Table(
        "Reconstruction", ("", "PSNR dB", "SSIM", "feature distance"),
        [row("translator", r["translator"]), row("a stranger's photograph", r["stranger"])], note,
    )  # fmt: skip


def _retrieval(r: Mapping[str, Any]) -> Table:
    names = {
        "translator": "translator",
        "floor": "floor: the content given back",
        "ceiling": "ceiling: the donor cut anew",
    }
    rows: list[tuple[str, ...]] = [
        (
            name,
            *(
                text
                for f in ("statistics", "colour", "network")
                for text in (f"{r[f][key]['top1']:.0%}", f"{r[f][key]['mean_place']:.1f}")
            ),
        )
        for key, name in names.items()
    ]
    header = (
        "",
        "statistics: top-1",
        "mean place",
        "colours alone: top-1",
        "mean place",
        "network: top-1",
        "mean place",
    )
    note = (
        f"Is the donor the nearest in style among {r['donors']}, none of them the content? Chance is "
        f"{1 / r['donors']:.0%}, place {(r['donors'] + 1) / 2:.1f}. Statistics: means and covariances of colours and "
        "their gradients at 32, 16 and 8 px; colours alone: without the gradients, which a blurred picture lacks. "
        "Network: mean and deviation of each channel of the feature network. No translator was trained on either."
    )
    return Table("Style: whose does it look like?", header, rows, note)


def _leakage(found: Mapping[str, Any], latent: Mapping[str, Any]) -> Table:
    names = {
        "shape_from_style": "aligned shape, from the style code",
        "pose_from_style": "pose, from the style code",
        "style_from_structure": "style statistics, from the structure code",
        "shape_from_statistics": "beside it: aligned shape, from the picture's style statistics",
        "pose_from_statistics": "beside it: pose, from the picture's style statistics",
        "style_from_landmarks": "beside it: style statistics, from the landmarks",
    }
    rows: list[tuple[str, ...]] = [
        (
            what,
            str(found[k]["dimensions"]),
            f"{found[k]['r2']:.3f} ± {found[k]['sd']:.3f}",
            f"{found[k]['shuffled']:.3f}",
        )
        for k, what in names.items()
        if k in found
    ]
    note = (
        f"R² of a ridge regression fitted on half of {counted(found['faces'], 'face')} and scored on the other, over "
        "five halvings; a lower bound, which more faces would raise. What two things share in the faces themselves (a "
        "beard has a shape and a colour) stands beside it."
    )
    if latent:
        note += (
            f" Style code: {latent['active']} of {counted(latent['units'], 'unit')} vary over the faces (variance "
            f"above {latent['threshold']}), in about {latent['directions']:.0f} directions."
        )
        if "kl_nats" in latent:
            note += f" KL {latent['kl_nats']:.1f} nats a face."
    return Table("Leakage: what does one code know of the other?", ("read", "numbers", "R²", "shuffled"), rows, note)


def _variety(found: Mapping[str, Any]) -> Table:
    d, k, apart = found["diversity"], found["kid"], found["distance"]
    rows: list[tuple[str, ...]] = [
        (
            f"feature distance within {counted(d['styles'], 'style')} of one face",
            f"{d['translator']['mean']:.4f}",
            f"{d['real']['mean']:.4f} ({counted(d['styles'], 'real face')})",
        ),
        (
            f"KID x 1000 to real faces, n = {k['faces']}",
            f"{1000 * k['value']:.1f} ± {1000 * k['sd']:.1f}",
            f"{1000 * k['floor']:.1f} ± {1000 * k['floor_sd']:.1f} (real to real)",
        ),
    ]
    for name, v in apart.items():
        unit = "4 x 4 thumbnails, of 2" if name == "colour" else "style statistics, in deviations"
        rows.append(
            (
                f"{name} to the donor / to the content ({unit})",
                f"{v['to_style']:.3f} / {v['to_content']:.3f}",
                f"{v['content_to_style']:.3f} (content to donor)",
            )
        )
    note = (
        f"Diversity over {counted(d['translator']['sets'], 'face')}. KID: polynomial kernel, unbiased, on "
        f"{k['faces']} swapped "
        "and as many real faces of other people, mean and deviation over random blocks of half of them, at most 50; "
        "antialiased resizing; features of the coarsest level of the network named above, so it compares with no KID "
        "of another network."
    )
    return Table("Variety and likeness to real faces", ("figure", "translator", "to read it by"), rows, note)


def _looks(found: Mapping[str, Any], without: int) -> Table:
    kept, count = found["kept"], found["donors"]
    rows: list[tuple[str, ...]] = [
        (
            f"donor nearest of {count}, {name}",
            f"{kept[part]['translator']['top1']:.0%}",
            f"{kept[part]['floor']['top1']:.0%} (the content given back)",
        )
        for part, name in (("whole", "whole picture"), ("face", "face alone"), ("surroundings", "what is round it"))
    ]
    rows.append(("sharpness, of the donors'", f"{found['sharpness']:.2f}", "1.00 (the donors)"))
    note = f"Nearness: by mean and deviation of each channel of {found['features']}: hair and texture, not pose."
    if distances := found["distances"]:
        ours, floor = distances["translator"], distances["floor"]
        rows += [
            (
                f"KID x 1000 to real faces, n = {distances['faces']}",
                f"{1000 * ours['kid']:.1f} ± {1000 * ours['kid_sd']:.1f}",
                f"{1000 * floor['kid']:.1f} ± {1000 * floor['kid_sd']:.1f} (the donors to them)",
            ),
            ("FID of the same", f"{ours['fid']:.1f}", f"{floor['fid']:.1f} (the donors to them)"),
        ]
        note += (
            " KID and FID: to real faces that gave none of them a style, in the coarsest of these features, "
            "each picture's scaled to one length; FID grows as faces get fewer."
        )
    if (tried := found["pairs"]["tried"]) > 0:
        refused = found["pairs"]["refused"]
        rows.append(("pairs that cannot be drawn", f"{refused / tried:.0%}", f"{refused} of {tried} looked at"))
        note += " Donors are near in shape and differ in look, as `generate` takes them; left out for want of one: "
        note += f"{counted(without, 'face')}."
    return Table("What an eye sees: is it the donor, and could it be real?", ("figure", "found", "beside"), rows, note)


def _drawn(d: Mapping[str, Any]) -> Table:
    names = {
        "translator": "translator",
        "content": "floor: the content given back",
        "donor": "floor: the donor's picture",
    }
    rows: list[tuple[str, ...]] = [
        (name, *(f"{d[key][part][figure]:{form}}" for part in ("whole", "face") for figure, form in DIGITS.items()))
        for key, name in names.items()
    ]
    header = ("", "whole: PSNR dB", "SSIM", "feature distance", "face: PSNR dB", "SSIM", "feature distance")
    note = (
        f"{counted(d['faces'], 'swap')} against the true answer, drawn: the content's structure in the donor's style. "
        "Face: the convex hull of the landmarks."
    )
    return Table("Distance to the true answer of each swap", header, rows, note)


def to_markdown(found: Mapping[str, Any]) -> str:
    """assessment.md."""
    lines = [f"# Translator report: {found['translator']['name']}", ""]
    for table in tables(found):
        lines += [f"## {table.title}", "", "| " + " | ".join(table.header) + " |", "|" + "---|" * len(table.header)]
        lines += ["| " + " | ".join(row) + " |" for row in table.rows]
        lines += ["", table.note, ""]
    return "\n".join(lines)
