"""The command line: `stylealign VERB [recipe] [--flags]`. Knows the verbs' names; each verb's module knows the rest.

Values come from, in rising order: the defaults of the verb's config dataclass, the recipe, the flags. The module of a
verb is imported only when that verb is asked for, so that `stylealign --help` does not import torch.
"""

import codecs
import io
import os
import re
import sys
from pathlib import Path
from typing import Any

from stylealign.errors import Stopped, UserError, shortened
from stylealign.jobs import VERBS
from stylealign.progress import say
from stylealign.training.plugins import load_plugins

SPINS = "2000"
"""Turns a thread of torch waits awake for the others before it sleeps. GNU OpenMP's own 300,000 make a step on two
cores eight times as long when another program keeps one of them busy, four times as long as on one thread; 2,000 cost
nothing where none does (docs/performance.md)."""

RECIPES = Path(__file__).parent / "recipes"

EPILOGUE = """
stylealign VERB --help         flags of a verb that people use first; --help-all: all of them
stylealign VERB RECIPE         values from a recipe (a file, or the name of one in the package); flags win
stylealign --recipes           the recipes in the package
  --dry-run                    print the resolved configuration and stop
  --debug                      show the traceback of an error
  --follow-links               take pictures by symbolic links that lead out of a data set's folder
Start with: stylealign pipeline tiny --out demo
"""


def top_help() -> str:
    """The text of `stylealign --help`."""
    lines = [f"  {name:<17}{verb.summary}" for name, verb in VERBS.items()]
    usage = "usage: stylealign [-h] [--version] VERB ...\n"
    head = f"{usage}\nFace-landmark detectors from few labels: keep a face's structure, change its style.\n"
    return "\n".join([head, *lines, EPILOGUE])


def parse(verb: str, arguments: list[str], **tyro_options: Any) -> Any:
    """Build the verb's config from `[recipe] [--flags]`. Raises UserError for whatever cannot be meant; `--help` exits.

    Where a verb's first words are its inputs (photographs, say), a word without .yaml at its
    end is one of them, never a recipe.
    """
    from stylealign.flags import read_flags

    cls = VERBS[verb].config_class()
    default = None
    first = arguments[0] if arguments else ""
    if verb != "check" and re.fullmatch(r"[^-].*\.ya?ml" if _takes_inputs(cls) else r"[^-].*", first):
        default = _recipe(verb, cls, find_recipe(first), arguments[1:])
        arguments = arguments[1:]
    return read_flags(cls, verb, VERBS[verb].summary, arguments, default, **tyro_options)


def _takes_inputs(cls: type) -> bool:
    """Whether a verb's config has words without a flag, such as the photographs of `predict`."""
    import typing

    from tyro.conf import Positional

    kinds = typing.get_type_hints(cls, include_extras=True).values()
    return any(Positional in getattr(kind, "__metadata__", ()) for kind in kinds)


def recipes() -> dict[str, Path]:
    """Name -> file of every recipe in the package, such as "small/lab"."""
    files = sorted(RECIPES.rglob("*.yaml"))
    return {path.relative_to(RECIPES).with_suffix("").as_posix(): path for path in files}


def find_recipe(given: str) -> Path:
    """The file of a recipe: one of the user's own, else one in the package, by its name with
    or without `recipes/` and `.yaml`.

    Raises UserError where it is neither.
    """
    path = Path(given)
    if path.is_file() or (path.exists() and path.suffix in (".yaml", ".yml")):
        return path
    name = re.sub(r"^(\./)?recipes/|\.ya?ml$", "", given)
    known = recipes()
    if name in known:
        return known[name]
    import difflib

    ends = [other for other in known if other.split("/")[-1] == name.split("/")[-1]]
    close = ends or difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    raise UserError(
        f"{given}: {'a folder, not a recipe' if path.is_dir() else 'no such file'}, and no "
        "recipe in the package has "
        f"this name{'; did you mean ' + ' or '.join(close) + '?' if close else ''} (`stylealign --recipes` lists them)"
    )


def recipe_list() -> str:
    """The text of `stylealign --recipes`: each one's name and the first line of its header."""
    known = recipes()
    width = max(map(len, known)) + 2
    lines = [
        f"  {name:<{width}}{path.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}"
        for name, path in known.items()
    ]
    return "\n".join([f"Recipes in {RECIPES}, to be named or copied:", *lines])


def _recipe(verb: str, cls: type, path: Path, flags: list[str]) -> Any:
    """The values of a recipe file, as defaults for the flags, which may supply what the recipe leaves out."""
    from stylealign.config import from_dict, read_yaml
    from stylealign.flags import partial_config  # tyro: `--help` does without it

    values = read_yaml(path) or {}
    if not isinstance(values, dict):
        return from_dict(cls, values, path.name)  # says what was expected
    if verb == "train-translator":
        from stylealign.jobs.train_translator.legacy_recipes import is_legacy_recipe, translate_recipe

        if is_legacy_recipe(values):
            from stylealign.progress import say

            vgg19 = "--vgg19" in {flag.split("=")[0] for flag in flags}
            values, became = translate_recipe(values, path.name, vgg19)
            for text in became:
                say(f"{path.name}: {text}")
    return partial_config(cls, values, path.name)


def _as_far_as_it_can(error: UnicodeError) -> tuple[str | bytes, int]:
    """What a terminal is shown of letters that its encoding lacks: +- for ±, of others their number."""
    if isinstance(error, UnicodeEncodeError) and error.object[error.start] == "±":
        return "+-", error.start + 1
    return codecs.backslashreplace_errors(error)


def _write_on(stream: Any) -> None:
    """Have standard output or error write on where its encoding lacks a letter, unless the person has said how."""
    codecs.register_error("stylealign", _as_far_as_it_can)
    kept_as_bytes = stream.errors == "surrogateescape" and "utf" in stream.encoding.lower()  # names that are no UTF-8
    if stream.errors in ("strict", "backslashreplace", "surrogateescape") and not kept_as_bytes:
        stream.reconfigure(errors="stylealign")


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns the exit status (0 fine, 2 the user's input, 3 done but for what
    was left out, 130 interrupted, 128 + N told to end by signal N)."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read when torch is loaded, which no verb has done yet
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["--"]:  # `torchrun ... -m stylealign -- VERB`: some Pythons hand the `--` on
        arguments = arguments[1:]
    for stream in ("stdout", "stderr"):  # a daemon may have been started without
        if getattr(sys, stream) is None:
            setattr(sys, stream, open(os.devnull, "w"))  # noqa: SIM115 (as long as the process)
        if isinstance(getattr(sys, stream), io.TextIOWrapper):
            _write_on(getattr(sys, stream))
    debug = "--debug" in arguments
    dry_run = "--dry-run" in arguments
    follow = "--follow-links" in arguments
    arguments = [a for a in arguments if a not in ("--debug", "--dry-run", "--follow-links")]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(top_help())
        return 0
    if arguments[0] == "--recipes":
        print(recipe_list())
        return 0
    if arguments[0] == "--version":
        from stylealign import __version__

        print(__version__)
        return 0
    verb = arguments.pop(0)
    if "STYLEALIGN_ENDS_WITH_PARENT" in os.environ:  # a training that `study` has started
        from stylealign.training.processes import end_with_parent

        end_with_parent()
    try:
        load_plugins()
        if verb not in VERBS:
            import difflib

            close = difflib.get_close_matches(verb, VERBS, n=1)
            raise UserError(
                f"no verb '{verb}'" + (f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(VERBS)}")
            )
        config = parse(verb, arguments)
        if dry_run:
            from stylealign.config import config_text

            print(config_text(config), end="")
            return 0
        from stylealign.data.paths import following_links

        with following_links(follow):
            status = VERBS[verb].load().main(config) or 0
        words = "" if status or "STYLEALIGN_ENDS_WITH_PARENT" in os.environ else VERBS[verb].next_words(config)
        if words:
            say(f"Next: {words}")
        return status
    except UserError as error:
        if debug:
            raise
        say(f"stylealign {verb}: {error}")
        return 2
    except OSError as error:  # the disk, a right, a file in the way: the machine's fault or the user's, never ours
        if debug:
            raise
        say(f"stylealign {verb}: {error.filename or 'the machine'}: {error.strerror or error}")
        return 2
    except Stopped as stopped:
        say(f"stylealign {verb}: told to end (signal {stopped.number}); the same command goes on")
        return stopped.status
    except KeyboardInterrupt:
        again = VERBS[verb].again if verb in VERBS else "begins anew"
        say(f"\nstylealign {verb}: interrupted; nothing is left half-written, and the same command {again}")
        return 130
    except Exception as error:
        if debug:
            raise
        say(
            f"stylealign {verb}: {type(error).__name__}: {shortened(str(error))} (a fault of ours or of the "
            "machine; --debug shows where)"
        )
        return 1


if __name__ == "__main__":
    sys.exit(main())
