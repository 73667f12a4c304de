"""The `--help` of a verb, written anew from what tyro prints: the flags that people use first, plain words for values.

`--help` shows at most SHOWN flags, `--help-all` every one in its section. Knows tyro's plain layout, no verb but by its
name in FIRST, and no configuration.
"""

import re
import shutil
import textwrap
from typing import NamedTuple

from stylealign.errors import counted

SHOWN, ALL_UP_TO, WIDEST = 10, 13, 110
TYROS_WIDTH = 129
"""Columns that tyro is given: as wide as it still puts all flags below each other."""
FIRST: dict[str, tuple[str, ...]] = {
    "predict": ("out", "model", "draw", "formats", "box", "boxes", "whole-image", "faces", "flip", "rotate"),
    "translate": ("out", "translator", "model", "strength", "sheet", "paste", "size", "whole-image"),
    "prepare": ("reader", "path", "out", "split", "splits", "carve", "convert", "images", "skip-bad", "copy"),
    "train-detector": (
        "real", "synthetic", "synthetic-share", "run", "model", "pretrained", "minutes", "loop.steps", "style.preset",
        "augment.preset",
    ),
    "train-finder": (
        "data", "run", "others", "size", "minutes", "loop.steps", "pretrained", "network.trunk", "split", "val-split",
    ),
    "train-translator": (
        "data", "run", "model", "loop.steps", "loop.batch-size", "crop.size", "extra", "vgg19", "subset",
        "loop.accelerator",
    ),
    "pretrain": ("data", "run", "split", "probe", "loop.steps", "loop.batch-size", "crop.size", "lr"),
    "generate": (
        "data", "translator", "out", "styles-per-face", "donors", "mode", "mix", "split", "subset", "accelerator",
    ),
    "study": ("data", "out", "seeds", "budgets", "tests", "jobs", "on", "list", "baseline", "synthetic"),
    "self-train": (
        "labelled", "unlabelled", "out", "split", "subset", "rounds", "seeds", "share", "jobs", "on",
    ),
    "pipeline": ("out", "data", "seeds", "synthetic-share", "jobs", "on"),
    "evaluate": ("data", "arms", "out", "split", "subset", "denominator", "baseline", "flip", "draw", "convert"),
    "pseudo-label": ("data", "detectors", "out", "split", "keep", "max-disagreement", "weigh", "match", "jobs", "on"),
    "draw-faces": ("out", "count", "size", "unlabelled", "seed", "cause", "strength", "val-frac", "test-frac"),
    "assess": ("data", "translator", "arm", "out", "split", "judge", "faces", "sheet-size"),
    "calibrate": ("data", "out", "model", "what", "split", "faces"),
}  # fmt: skip
"""The flags that `--help` of a verb with many of them shows, in order; of others their first."""
WORDS = {"INT": "N", "FLOAT": "X", "STR": "NAME"}
LONGEST_CHOICE = 60
"""Columns of a list of choices beside its flag; a longer one whose choices the text lists is NAME."""


class Flag(NamedTuple):
    """A flag, or a word without one."""

    names: tuple[str, ...]
    """`--out`; of a word without a flag nothing"""
    values: str
    """what follows it, as a person reads it"""
    text: str
    """a line for each of its choices, where it describes them"""
    section: str

    def choices(self) -> list[str]:
        """The words that may follow it, where they are listed."""
        listed = re.match(r"\{([^{}]*)\}", self.values)
        return listed[1].split(",") if listed else []


def plain_values(tyros: str) -> str:
    """Tyro's notation of values in plain words: `{None}|PATH` is PATH, `[STR [STR ...]]` is NAME ..., {None,a} {a}."""
    text = re.sub(r"\{None\}\|", "", tyros).replace("{None,", "{")
    for _ in range(2):
        text = re.sub(r"\[(\{[^}]*\}|[^\[\]]+?) \[(?:\1 )?\.\.\.\]\]", r"\1 ...", text)
    text = re.sub(r"^\[([^\[\]]*)\]$", r"\1", text.strip())
    text = re.sub(r"^\{([^{},]*)\}$", r"\1", text)
    return re.sub(r"\b(INT|FLOAT|STR)\b", lambda found: WORDS[found[0]], text)


def _of_line(line: str, section: str) -> Flag:
    """A flag from its first line: `--onnx {None}|PATH, --model {None}|PATH   what it says`."""
    head, _, text = re.sub(r"\s{2,}", "\0", line.strip(), count=1).partition("\0")
    names = re.findall(r"(?:^|, )(-[\w.-]+)", head)
    values = re.sub(r"^-[\w.-]+,? ?", "", head.rpartition(", -")[2] if names else head)
    if len(names) > 1:
        values = head.rpartition(names[-1])[2]
    # A second name of a flag is told from `--no-...` by having values of its own; the one that says more comes last.
    ordered = names if any(".no-" in name or name.startswith("--no-") for name in names) else names[::-1]
    return Flag(tuple(ordered), plain_values(values), text, section)


def read_flags_of(tyros: str) -> list[Flag]:
    """The flags in a help text of tyro's, TYROS_WIDTH columns wide."""
    found: list[Flag] = []
    section, said = "", False
    for line in map(str.rstrip, tyros.splitlines()):
        if re.fullmatch(r" +-{5,}", line) or not line.strip():
            said = False
        elif title := re.fullmatch(r" (\S.*)", line):
            section = title[1]
        elif re.match(r"  (-|\[|\{|[A-Z]+\b.*\s{2})", line) and (line.startswith("  -") or "positional" in section):
            found.append(_of_line(line, section))
            said = True
        elif found and found[-1].values.count("{") > found[-1].values.count("}") and re.match(r"  \S", line):
            found[-1] = found[-1]._replace(values=plain_values(found[-1].values + line.strip()))
        elif re.match(r"  \S", line) and not said and ": " not in section and section != "positional arguments":
            section = f"{section}: {line.strip()}"
        elif line.startswith("   ") and found and said:
            before = found[-1].text
            gap = "" if re.search(r"\w-$", before) else " "  # broken behind a hyphen
            if line.strip().partition(": ")[0] in found[-1].choices():
                gap = "\n"
            found[-1] = found[-1]._replace(text=f"{before}{gap}{line.strip()}".strip())
    return found


def _written(flag: Flag, column: int, width: int) -> list[str]:
    """A flag's lines, its text from that column on."""
    described = flag.choices() and all(f"\n{choice}: " in flag.text for choice in flag.choices())
    values = "NAME" if described and len(flag.values) > LONGEST_CHOICE else flag.values
    head = ", ".join(flag.names) + (f" {values}" if values and flag.names else values)
    text = re.sub(r" ?\(default: (None|'')?\)", "", flag.text)
    lines: list[str] = []
    for part in text.splitlines():
        lines += textwrap.wrap(part, width - column, break_on_hyphens=False, subsequent_indent="  " * bool(lines))
    lines = lines or [""]
    first = [f"  {head}"] if len(head) + 4 > column else []
    if not first:
        lines[0] = f"  {head}".ljust(column) + lines[0]
    return [*first, *(line if not first and i == 0 else " " * column + line for i, line in enumerate(lines))]


def chosen(flags: list[Flag], verb: str) -> list[Flag]:
    """Those of a verb's flags that `--help` shows: all where they are few."""
    named = [flag for flag in flags if flag.names and "--help" not in flag.names]
    if len(named) <= ALL_UP_TO:
        return named
    wanted = [f"--{name}" for name in FIRST.get(verb, ())]
    by_name = {name: flag for flag in named for name in flag.names}
    return [by_name[name] for name in wanted if name in by_name] or named[:SHOWN]


def help_of(tyros: str, verb: str, summary: str, everything: bool) -> str:
    """What `stylealign VERB --help` prints (`everything`: `--help-all`), from tyro's text, as wide as the terminal but
    at most WIDEST columns. The first word of verbs that take no words of their own may be a recipe."""
    flags = read_flags_of(tyros)
    words = [flag for flag in flags if not flag.names]
    named = [flag for flag in flags if flag.names and "--help" not in flag.names]
    width = min(WIDEST, shutil.get_terminal_size().columns)
    shown = named if everything else chosen(flags, verb)
    usage = " ".join(["usage: stylealign", verb, *([w.values for w in words] or ["[RECIPE]"])])
    column = min(28, 4 + max((len(", ".join(f.names)) + len(f.values) + 1 for f in [*words, *shown]), default=8))
    lines = [f"{usage} [--flags]", "", summary, ""]
    section = ""
    for flag in [*words, *shown]:
        if everything and flag.names and flag.section != section:
            section = flag.section
            title = textwrap.wrap(section, width) if ": " in section else [f"{section}:"]
            lines += [""] * (lines[-1] != "") + title
        lines += _written(flag, column, width)
    rest = len(named) - len(shown)
    lines += [
        "",
        f"--help-all shows {counted(rest, 'more flag')}"
        if rest
        else "--dry-run prints what the flags come to, and stops",
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def known_flags(tyros: str) -> list[str]:
    """Every name of every flag in a help text of tyro's."""
    return [name for flag in read_flags_of(tyros) for name in flag.names]
