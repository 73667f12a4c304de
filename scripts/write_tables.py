"""Write docs/tables.md from the tables of the code. Run it after changing an entry of one; a test fails until you do.

python scripts/write_tables.py
"""

import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from stylealign.batches.augment import AUGMENTATIONS
from stylealign.batches.augment import PRESETS as AUGMENT_PRESETS
from stylealign.data.formats import FORMATS
from stylealign.detectors import DETECTORS
from stylealign.detectors.on_trunk import IntoTrunk
from stylealign.jobs import VERBS
from stylealign.styling.arms import ARMS
from stylealign.styling.chain import PRESETS
from stylealign.translators import TRANSLATORS

PAGE = Path(__file__).parents[1] / "docs" / "tables.md"
SIZES = {"small": "small", "paper": "as published"}
WIDTH = 120

HEAD = """# Tables

What this package has, as its tables say. Written by `scripts/write_tables.py`; a test compares it with the code, so
that nothing new goes without a line here. [architecture.md](architecture.md) says how to add an entry.
"""


def item(name: str, *sentences: str) -> str:
    """A line of a list, wrapped: the name, then sentences with a capital and a full stop each."""
    said = [
        (s[0].upper() if re.match(r"[a-z]\w* ", s) else s[0]) + s[1:].removesuffix(".") + "." for s in sentences if s
    ]
    text = f"- `{name}`: {' '.join(' '.join(said).split())}".replace("....", "...").replace("<", "\\<")
    spans = re.sub(r"`[^`]*`", lambda span: span[0].replace(" ", "\0"), text)  # code is not broken over lines
    lines = textwrap.wrap(spans, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace("\0", " ")


def section(title: str, text: str, items: Iterable[str]) -> str:
    """A heading, what the list holds, and the list."""
    return "\n".join([f"## {title}", "", *text.strip().splitlines(), "", *items, ""])


def sizes(presets: Sequence[Any]) -> str:
    """The sizes of a network that a person would train: small 64 px, as published 256 px."""
    sides = {v: [str(side) for side in dict.fromkeys(p.size for p in presets if p.version == v)] for v in SIZES}
    return "Sizes: " + "; ".join(f"{SIZES[version]} {', '.join(s)} px" for version, s in sides.items() if s)


def detectors() -> Iterable[str]:
    for name, entry in DETECTORS.items():
        needs = ["a mark-up with curves"] * entry.needs_curves
        needs += ["a second data set (`--other`)"] * entry.several_heads
        needs += ["generators (`--styles`, or trained in the run)"] * (entry.style_generators is not None)
        own = not isinstance(entry.pretrained, IntoTrunk) or entry.pretrained.own is not None
        on_trunk = "" if own else f", on a trunk (`--{entry.section}.trunk`)"
        takes = f"`--pretrained` takes ImageNet weights{on_trunk}" if entry.pretrained else ""
        yield item(
            name, entry.summary, f"Flags: `--{entry.section}.*`", sizes(entry.presets), takes,
            f"Needs {' and '.join(needs)}" if needs else "",
        )  # fmt: skip


def translators() -> Iterable[str]:
    for name, entry in TRANSLATORS.items():
        flags = ", ".join(f"`--{key.replace('_', '-')}.*`" for key in (name, *entry.sections))
        needs = "Needs the face's own photograph" if getattr(entry.loaded, "needs_content", False) else ""
        if entry.learn is None:
            named = "Its name stands where a run folder would: `--translator " + name + "`"
            yield item(name, entry.summary, named, "Any size", needs)
            continue
        yield item(name, entry.summary, f"Flags: {flags}", sizes(entry.presets), needs)


def arms() -> Iterable[str]:
    for name, entry in ARMS.items():
        needs = ["a finished run of `train-translator`"] * entry.needs_run
        needs += ["donors with landmarks"] * entry.needs_donor_landmarks
        yield item(
            name, entry.summary, "" if entry.looks_at_donor else "Takes nothing from a donor",
            f"Needs {' and '.join(needs)}" if needs else "",
        )  # fmt: skip


def chains() -> Iterable[str]:
    for name, chain in PRESETS.items():
        groups: dict[int, list[str]] = {}
        for arm in chain:
            groups.setdefault(arm.group, []).append(f"`{arm.kind}`")
        links = [f"one of {', '.join(kinds)}" if len(kinds) > 1 else kinds[0] for kinds in groups.values()]
        yield item(name, ", then ".join(links) or "no restyling")


def augmentations(kind: str) -> Iterable[str]:
    for name, entry in AUGMENTATIONS.items():
        if entry.kind == kind:
            yield item(name, entry.summary, f"At strength 1: {entry.full}")


def augment_presets() -> Iterable[str]:
    for name, ops in AUGMENT_PRESETS.items():
        each = [f"`{op.name}` {op.prob:.0%} ({op.strength[0]:g} to {op.strength[1]:g})" for op in ops]
        yield item(name, "The usual keys alone" if not each else f"The usual keys, then {', '.join(each)}")


def formats() -> Iterable[str]:
    for name, entry in FORMATS.items():
        yield item(
            name, entry.summary, f"`--path`: {entry.source}",
            f"Written: {entry.writes}" if entry.write else "Only read",
            f"`predict --formats {entry.predicted.name}` writes it" if entry.predicted else "",
        )  # fmt: skip


def verbs() -> Iterable[str]:
    for name, verb in VERBS.items():
        yield item(name, verb.summary)


def page() -> str:
    """The text of docs/tables.md."""
    return (
        "\n".join(
            [
                HEAD,
                section(
                    "Detectors",
                    "`stylealign train-detector --model NAME`; `stylealign models` measures them.",
                    detectors(),
                ),
                section("Translators", "`stylealign train-translator --model NAME`.", translators()),
                section("Style arms", "`--style.preset NAME` of `train-detector` and `generate`.", arms()),
                section(
                    "Chains of arms", "By name as an arm; a recipe can hold others (`style: {arms: ...}`).", chains()
                ),
                section(
                    "Augmentations that move",
                    "`augment: {ops: [{name: NAME, prob: 0.1, strength: [0, 1]}]}` in a recipe: "
                    "[augmentations.md](augmentations.md).",
                    augmentations("geometric"),
                ),
                section(
                    "Augmentations of colour, camera, light and weather", "Named alike.", augmentations("photometric")
                ),
                section(
                    "Augmentations that hide", "Named alike; they mark hidden landmarks.", augmentations("occluding")
                ),
                section(
                    "Presets of augmentations",
                    "`--augment.preset NAME`: the share of faces and the range of strength of each operation.",
                    augment_presets(),
                ),
                section(
                    "Formats",
                    "`stylealign prepare --reader NAME`; where one is written, `export-dataset --format NAME`.",
                    formats(),
                ),
                section("Verbs", "`stylealign VERB --help`, or [jobs](jobs).", verbs()),
            ]
        ).rstrip("\n")
        + "\n"
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
