"""Flags of the command line -> a config dataclass, and a wrong flag -> one sentence.
Knows tyro's error boxes and no verb.

tyro draws a box round what is wrong and exits. Here the box is caught, drawn so wide that no
line of it is broken, and read back.
"""

import contextlib
import difflib
import io
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tyro

from stylealign.config import from_dict, to_dict
from stylealign.errors import UserError
from stylealign.progress import say
from stylealign.verb_help import TYROS_WIDTH, help_of, known_flags


@contextlib.contextmanager
def _columns(number: int) -> Iterator[None]:
    """Make the terminal look this wide."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(number)
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


_NUMBERS = {"INT": ("a whole number", "whole numbers"), "FLOAT": ("a number", "numbers")}


def _expected(kinds: str) -> str:
    """What tyro's name of a flag's kinds asks for, such as `{None}|{INT INT}`."""
    asked = kinds.removeprefix("{None}|").strip("{}")
    first, *more = asked.split() or [""]
    if first not in _NUMBERS or set(more) - {first}:
        return asked
    return f"{1 + len(more)} {_NUMBERS[first][1]}" if more else _NUMBERS[first][0]


def _in_plain_words(message: str) -> str:
    """What tyro and Python say of a flag's value: which one it is, what was found and what was expected."""
    for pattern, expected in (
        (r"invalid literal for int\(\) with base 10: (.*)", "a whole number"),
        (r"could not convert string to float: (.*)", "a number"),
    ):
        message = re.sub(pattern, rf"found \1, expected {expected}", message)
    message = re.sub(r"Missing value for argument '(\S+)'\. Expected 1 values\.", r"\1: found no value", message)
    if either := re.search(r"no type matching (.*?) could be instantiated from \[(.*?)\]\.", message):
        found = " ".join(re.findall(r"'([^']*)'", either[2]))
        return message[: either.start()] + f"found {found!r}, expected {_expected(either[1])}"
    if several := re.search(r"Could not find valid parse for arguments: \[(.*)\]", message):
        given = " ".join(re.findall(r"'([^']*)'", several[1]))
        return message[: several.start()] + f"found {given!r}, expected values of another number or kind"
    choice = re.search(r"invalid choice '(.*)' for argument '(\S+)'\. Expected one of \((.*)\)\.?", message)
    if not choice:
        return message
    value, flag, choices = choice[1], choice[2], re.findall(r"'([^']*)'", choice[3])
    if "None" in choices:  # not given; what else there is comes in no order then
        choices = sorted(set(choices) - {"None"})
    close = difflib.get_close_matches(value, choices, n=1)
    meant = f"; did you mean {close[0]}?" if close else ""
    return f"{flag}: found '{value}', expected {' or '.join([', '.join(choices[:-1]), *choices[-1:]])}{meant}"


def closest(unknown: str, known: Sequence[str]) -> list[str]:
    """The flags that someone may have meant: those of another section with this very name, else the most alike."""
    name = unknown.split("=")[0]
    same = [flag for flag in known if flag.rpartition(".")[2] == name.lstrip("-") and "." in flag]
    return same[:3] or difflib.get_close_matches(name, known, n=1, cutoff=0.7)


def sentence_of(box: str, known: Sequence[str] = ()) -> str:
    """What one of tyro's error boxes says. `known`: flags that there are; those close to an unknown one are named.

    A box has a title and sections with rules between them: a message, the flags that are missing or unknown,
    flags that are like them, each indented by four, and where to find help. Where the terminal has no UTF-8,
    the title is underlined instead.
    """
    lines = [re.sub("\x1b\\[[0-9;]*m", "", line) for line in box.splitlines()]
    lines = [re.sub("^(│ |  )|[ │]+$", "", line) for line in lines if line.strip() and line[0] not in "╭╰"]
    sections: list[list[str]] = [[]]
    for line in lines if "╭" in box else lines[2:]:
        if set(line) <= set("─-"):
            sections.append([])
        else:
            sections[-1].append(line)
    said: list[str] = []
    like: list[str] = []
    unknown: list[str] = []
    for head, *rest in filter(None, sections):
        names = [m[1].rstrip(",") for line in rest if (m := re.match(r" {4}(\S+)", line))]
        if head.startswith("Missing from"):
            said.append(f"missing {', '.join(names)}")
        elif head.startswith("Unrecognized"):
            words = names or head.partition(": ")[2].replace(",", " ").split()
            unknown = [word for word in words if word.startswith("-")]  # what follows one is its value
            said.append(f"unknown {', '.join(unknown or words)}")
            if recipe := re.search(r"[^\s,]+\.ya?ml\b", " ".join(words)):
                said.append(f"a recipe comes first, before the flags: {recipe[0]}")
        elif head.startswith(("Perhaps", "Arguments similar")):
            like += names
        elif not head.startswith(("For full", "Argument helptext")):
            text = " ".join(line.strip() for line in [head, *rest])
            said.append(_in_plain_words(re.sub(r"^Error parsing ([A-Z]\w*: )?", "", text)))
    close = [match for name in unknown for match in closest(name, known)]
    if like := close or like:
        said.append(f"did you mean {' or '.join(dict.fromkeys(like))}?")
    return "; ".join(said) or box.strip()


def _tyros_help(cls: type, flags: list[str], default: Any, options: dict[str, Any]) -> str:
    """What tyro prints for `--help`, without colours."""
    printed = io.StringIO()
    plain = {"NO_COLOR": "1", "TERM": "dumb"}
    before = {name: os.environ.get(name) for name in plain}
    os.environ.update(plain)
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit), _columns(TYROS_WIDTH):
            tyro.cli(
                cls,
                prog="x",
                args=[*flags, "--help"],
                default=default,
                config=(tyro.conf.AvoidSubcommands,),
                **options,
            )
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
    return printed.getvalue()


def _flag_of_nan(values: Any, flag: str = "") -> str:
    """The first flag of a config's plain values that is NaN, or holds it; empty where none does."""
    if isinstance(values, dict):
        inner = [_flag_of_nan(value, f"{flag}.{key}" if flag else f"--{key}") for key, value in values.items()]
    elif isinstance(values, list):
        inner = [_flag_of_nan(value, flag) for value in values]
    else:
        return flag if isinstance(values, float) and math.isnan(values) else ""
    return next(filter(None, inner), "")


def read_flags(cls: type, verb: str, line: str, flags: list[str], default: Any = None, **options: Any) -> Any:
    """Build `cls` from flags; `default` holds a recipe's values. `--help` and `--help-all` print and exit.

    Raises UserError where flags are missing, unknown or have no such value, and where
    the config's own checks refuse it.
    """

    def read() -> Any:
        return tyro.cli(
            cls,
            prog=f"stylealign {verb}",
            description=line,
            args=flags,
            default=default,
            config=(tyro.conf.AvoidSubcommands,),
            **options,
        )

    asked = {"-h", "--help", "--help-all"} & set(flags)
    if asked:
        rest = [flag for flag in flags if flag not in ("-h", "--help", "--help-all")]
        print(help_of(_tyros_help(cls, rest, default, options), verb, line, "--help-all" in asked), end="")
        raise SystemExit(0)
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box), _columns(2000):
            config = read()
    except SystemExit as stop:
        if stop.code != 2:
            raise
        said = box.getvalue()
        known = known_flags(_tyros_help(cls, [], default, options)) if "Unrecognized" in said else []
        raise UserError(f"{sentence_of(said, known)} (`stylealign {verb} --help-all` shows all flags)") from None
    if warning := box.getvalue().rstrip():
        say(warning)
    if flag := _flag_of_nan(to_dict(config)):  # a comparison with it is never true, so that checks may let it through
        shown = flag.replace("_", "-")
        raise UserError(f"{shown}: found nan, expected a number (`stylealign {verb} --help-all` shows all flags)")
    return config


def partial_config(cls: type, values: dict[str, Any], where: str) -> Any:
    """A default for tyro from a recipe that may leave required keys to the flags."""
    import dataclasses

    required = [
        f.name
        for f in dataclasses.fields(cls)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and f.name not in values
    ]
    if not required:
        return from_dict(cls, values, where)
    # Build with stand-ins to have everything else checked, then mark the required ones as missing.
    import typing

    kinds = typing.get_type_hints(cls)
    stand_in = {Path: "missing", str: "missing", int: 1, float: 1.0}
    config: Any = from_dict(cls, {**values, **{name: stand_in.get(kinds[name], "missing") for name in required}}, where)
    for name in required:
        object.__setattr__(config, name, tyro.MISSING)
    return config
