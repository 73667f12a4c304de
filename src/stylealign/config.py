"""Frozen dataclasses <-> YAML, strictly: an unknown key, a wrong type or a missing value is
one sentence with the key's path. And the one place where YAML and JSON of strangers are read, within limits.

Knows dataclasses, `Literal`, unions with None, tuples, dicts, paths and scalars; knows nothing of faces.
"""

import dataclasses
import difflib
import json
import math
import types
import typing
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import yaml

from stylealign.errors import UserError, counted

C = TypeVar("C")

# Words people type that difflib alone would not connect with ours.
SYNONYMS = {
    "learning_rate": "lr", "iterations": "steps", "iters": "steps", "num_steps": "steps", "epochs": "steps",
    "batch": "batch_size", "dataset": "data", "data_dir": "data", "output": "out", "output_dir": "out",
    "image_size": "size", "spatial_size": "size", "num_styles": "styles_per_face", "k": "styles_per_face",
    "random_seed": "seed",
}  # fmt: skip


def to_dict(config: Any) -> Any:
    """Turn a config (nested dataclasses, tuples, paths) into plain values that YAML and JSON can hold."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: to_dict(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {str(k): to_dict(v) for k, v in config.items()}
    if isinstance(config, tuple | list):
        return [to_dict(v) for v in config]
    return str(config) if isinstance(config, Path) else config


def _suggest(key: str, known: list[str]) -> str:
    close = SYNONYMS.get(key)
    if close not in known:
        matches = difflib.get_close_matches(key, known, n=1)
        close = matches[0] if matches else None
    return f"; did you mean '{close}'?" if close else f"; known keys: {', '.join(known)}"


def _convert(value: Any, kind: Any, where: str) -> Any:
    """Read `value` (from YAML) as type `kind`; `where` is the key's path for messages."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin is typing.Annotated:
        return _convert(value, args[0], where)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        errors = []
        for option in args:
            if option is not type(None):
                try:
                    return _convert(value, option, where)
                except UserError as error:
                    errors.append(error)
        raise errors[0]
    if origin is typing.Literal:
        if value in args:
            return value
        raise UserError(f"{where}: found {value!r}, expected one of {', '.join(map(repr, args))}")
    if dataclasses.is_dataclass(kind):
        return from_dict(kind, value, where)  # type: ignore[arg-type]
    if origin in (tuple, list):
        if isinstance(value, str) or not isinstance(value, tuple | list):
            raise UserError(f"{where}: found {value!r}, expected a list")
        if origin is list or (len(args) == 2 and args[1] is Ellipsis):
            return origin(_convert(v, args[0], f"{where}[{i}]") for i, v in enumerate(value))
        if len(value) != len(args):
            raise UserError(f"{where}: found {counted(len(value), 'value')}, expected {len(args)}")
        return tuple(_convert(v, a, f"{where}[{i}]") for i, (v, a) in enumerate(zip(value, args, strict=True)))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise UserError(f"{where}: found {value!r}, expected a mapping")
        return {_convert(k, args[0], where): _convert(v, args[1], f"{where}.{k}") for k, v in value.items()}
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind is float and not isinstance(value, bool):
        with suppress(TypeError, ValueError, OverflowError):  # PyYAML reads 1e-4 as a string, which a person means
            if not math.isnan(number := float(value)):
                return number
    if kind is str and isinstance(value, str | int | float):
        return str(value)
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    name = getattr(kind, "__name__", str(kind))
    raise UserError(f"{where}: found {value!r}, expected {'a number' if kind is float else name}")


def from_dict(cls: type[C], values: Any, where: str = "config") -> C:
    """Build the dataclass `cls` from plain values. Unknown and missing keys are refused with the key's path."""
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: found {values!r}, expected a mapping with keys of {cls.__name__}")
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    kinds = typing.get_type_hints(cls, include_extras=True)
    for key in values:
        if key not in fields:
            raise UserError(f"{where}: unknown key '{key}'{_suggest(str(key), list(fields))}")
    missing = [
        name
        for name, f in fields.items()
        if name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UserError(f"{where}: missing key{'s' if len(missing) > 1 else ''} {', '.join(missing)}")
    given = {k: _convert(v, kinds[k], f"{where}.{k}") for k, v in values.items()}
    try:
        return cls(**given)
    except (ValueError, UserError) as error:
        raise UserError(str(error) if str(error).startswith(where) else f"{where}: {error}") from None


def with_sections(
    base: type[C], name: str, choice: str, help: str, default: str, sections: Mapping[str, Mapping[str, Any]]
) -> type[C]:
    """A config dataclass of a job that is done by one of several entries of a table, each with sections of its own.

    Args:
        base: frozen dataclass with all that does not depend on the table.
        name: of the class that is made.
        choice: its field that names the entry; it becomes a `Literal` of the names.
        help: of that field.
        default: the entry taken where none is named.
        sections: name of the entry -> {name of a section: its dataclass, or an instance that is the default}.

    Returns:
        A subclass of `base`, of the same docstring, with a field for each section.
    """
    import tyro  # not above: reading a data set needs no flags

    kind = typing.Annotated[typing.Literal[tuple(sections)], tyro.conf.arg(help=help)]  # type: ignore[valid-type]
    fields: list[Any] = [(choice, kind, dataclasses.field(default=default))]
    for section, value in (pair for own in sections.values() for pair in own.items()):
        if isinstance(value, type):
            fields.append((section, value, dataclasses.field(default_factory=value)))
        else:
            fields.append((section, type(value), dataclasses.field(default=value)))
    made = dataclasses.make_dataclass(
        name, fields, bases=(base,), frozen=True, kw_only=True, namespace={"__doc__": base.__doc__}
    )
    made.__module__ = base.__module__
    return made


# --------------------------------------------------------------------------------------------------------------------
# Text of strangers -> plain values

MAX_DEPTH, MAX_NUMBER, MAX_YAML_VALUES = 64, 100, 50_000
"""Levels of lists and mappings, characters of a number, values of a YAML file with its aliases written out, at most."""
MAX_YAML, MAX_JSON = 1_000_000, 1 << 30
"""Bytes of a file at most. COCO's own key points are 240 MB of JSON."""

_TAGS = ("!!null", "!!bool", "!!int", "!!float", "!!str", "!!timestamp", "!!seq", "!!map")


def _problem(text: str, place: Any) -> yaml.MarkedYAMLError:
    """An error that names the line of an event or a node."""
    return yaml.MarkedYAMLError(problem=text, problem_mark=place.start_mark)


class _PlainLoader(yaml.SafeLoader):
    """YAML of plain values: no odd tags, no endless numbers, no deep nesting, and aliases count as what they stand for.

    PyYAML calls these methods, so all that is refused comes with its line.
    """

    def __init__(self, text: str):
        super().__init__(text)
        self._composed = self._depth = 0
        self._sizes: dict[int, tuple[int, int]] = {}  # id of a whole node -> its values and levels, aliases written out

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        self._composed += 1
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _problem(f"more than {MAX_DEPTH} levels within each other", event)
        if self._composed > MAX_YAML_VALUES:
            raise _problem(f"more than {MAX_YAML_VALUES:,} values", event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self._sizes:
                raise _problem(f"{event.anchor!r} stands for a value that holds itself", event)
            return node
        assert node is not None  # there was an event to make it of
        inner = [] if isinstance(node.value, str) else node.value
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key in (key for key, _ in inner if isinstance(key, yaml.ScalarNode)):
                if key.tag == "tag:yaml.org,2002:bool":
                    key.tag = "tag:yaml.org,2002:str"  # `on: slurm`, an arm called `no`: what YAML 1.1 takes for truth
                if (key.tag, key.value) in seen:
                    raise _problem(f"the key {key.value!r} a second time, whose first value would be lost", key)
                seen.add((key.tag, key.value))
            inner = [part for pair in inner for part in pair]
        sizes = [self._sizes[id(part)] for part in inner]
        values, levels = 1 + sum(n for n, _ in sizes), 1 + max((n for _, n in sizes), default=0)
        if values > MAX_YAML_VALUES or levels > MAX_DEPTH:
            found = f"{counted(values, 'value')} in {counted(levels, 'level')} with aliases written out"
            raise _problem(f"{found}, expected at most {MAX_YAML_VALUES:,} in {MAX_DEPTH}", event)
        self._sizes[id(node)] = values, levels
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        kind = node.tag.replace("tag:yaml.org,2002:", "!!")
        if kind not in _TAGS:
            raise _problem(f"the tag {kind}, expected plain values", node)
        if kind in ("!!int", "!!float") and len(node.value) > MAX_NUMBER:
            raise _problem(f"a number of {counted(len(node.value), 'character')}, expected at most {MAX_NUMBER}", node)
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, AttributeError, TypeError, OverflowError):  # !!int x, 2001-99-99
            found = repr(node.value) if isinstance(node.value, str) else "what stands there"
            raise _problem(f"{found} is no {kind[2:]}", node) from None


def read_text(path: Path, most: int = MAX_JSON, encoding: str = "utf-8-sig") -> str:
    """The text of a file or pipe of at most so many bytes. Raises UserError where it cannot be read."""
    try:
        with open(path, "rb") as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise UserError(f"{path}: larger than {most:,} bytes, expected at most that")
        return content.decode(encoding)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a NUL in the path
        raise UserError(f"{path}: cannot be read ({error})") from None


def read_yaml(path: Path) -> Any:
    """Read a YAML file of plain values (never of objects), within limits: see `MAX_DEPTH` and those beside it."""
    text = read_text(path, MAX_YAML, "utf-8")
    try:
        return yaml.load(text, Loader=_PlainLoader)  # a SafeLoader with limits
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f"line {mark.line + 1}: "
        what = " ".join(str(getattr(error, "problem", None) or error).split())
        raise UserError(f"{path}: not valid YAML: {line}{what[:300]}") from None
    except RecursionError:
        raise UserError(f"{path}: not valid YAML: nested deeper than can be read") from None


def _whole(digits: str) -> int:
    if len(digits) > MAX_NUMBER:
        raise UserError(f"a number of {counted(len(digits), 'digit')}, expected at most {MAX_NUMBER}")
    return int(digits)


_JSON = json.JSONDecoder(parse_int=_whole)


def _deeper(value: Any, levels: int) -> bool:
    """Whether lists and mappings lie within each other on more than so many levels."""
    level = [value] if type(value) is list or type(value) is dict else []
    for _ in range(levels):
        inner = (v.values() if type(v) is dict else v for v in level)
        level = [v for values in inner for v in values if type(v) is list or type(v) is dict]
        if not level:
            return False
    return bool(level)


def parse_json(text: str | bytes, where: str, lines: bool = False) -> Any:
    """The plain values of a JSON text; `where` is its file or file:line, to which `lines` adds the bad line.

    Raises UserError where it is no JSON, nested deeper than `MAX_DEPTH`, or holds a number longer than `MAX_NUMBER`.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode(json.detect_encoding(text), "surrogatepass")
        value = _JSON.decode(text)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except json.JSONDecodeError as error:
        line = f":{error.lineno}" if lines else ""
        raise UserError(f"{where}{line}: not valid JSON ({error.msg} at column {error.colno})") from None
    except ValueError as error:
        raise UserError(f"{where}: not valid JSON ({error})") from None
    except RecursionError:
        value = None
    else:
        if not _deeper(value, MAX_DEPTH):
            return value
    raise UserError(f"{where}: JSON nested deeper than {MAX_DEPTH} levels, expected at most that")


def read_json(path: Path, most: int = MAX_JSON) -> Any:
    """The plain values of a JSON file (UTF-8, with or without a byte-order mark) of at most so many bytes."""
    return parse_json(read_text(path, most), str(path), lines=True)


def read_note(path: Path) -> dict[str, Any]:
    """What a small JSON file of another process says; nothing where it is not there, cut short or no mapping."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def load_config(cls: type[C], path: Path) -> C:
    """Read a recipe file as `cls`."""
    return from_dict(cls, read_yaml(path) or {}, Path(path).name)


def config_text(config: Any) -> str:
    """A config as the YAML that `load_config` reads back."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def save_config(config: Any, path: Path) -> None:
    """Write a config as YAML; `load_config` reads the same config back."""
    Path(path).write_text(config_text(config), encoding="utf-8")


def merged(values: Mapping[str, Any], *more: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with each of `more` on top; nested mappings are merged, everything else is replaced."""
    result = dict(values)
    for layer in more:
        for key, value in layer.items():
            below = result.get(key)
            if isinstance(value, Mapping):
                result[key] = merged(below if isinstance(below, Mapping) else {}, value)
            else:
                result[key] = value
    return result


# --------------------------------------------------------------------------------------------------------------------
# The same configuration or another


FREE_KEYS = (
    ".run", ".accelerator", ".devices", ".num_nodes", ".loop.follow", ".pinned", ".jobs", ".on", ".cluster",
    ".learnt_from",
)  # fmt: skip
"""What may differ where a job goes on, without changing its result, by the ends of keys' paths (`follow` of `pretrain`
is a weight). `learnt_from` is known by the hash beside it, and data sets from before it have none."""


def plain(config: Any) -> Any:
    """A configuration as YAML would give it back, so that two can be compared."""
    return yaml.safe_load(yaml.safe_dump(to_dict(config)))


def saved_config(path: Path, cls: type) -> Any:
    """A saved configuration as plain values: completed by today's defaults, or as it stands
    where it cannot be read as `cls`.

    Keys that were added since do not make it another one.
    """
    values = read_yaml(path)
    try:
        return plain(from_dict(cls, values))
    except UserError:
        return values


def first_difference(a: Any, b: Any, path: str = "") -> str | None:
    """Name the first key in which two configurations differ, with both values."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in [*a, *(k for k in b if k not in a)]:
            place = f"{path}.{key}" if path else str(key)
            if not f".{place}".endswith(FREE_KEYS) and (found := first_difference(a.get(key), b.get(key), place)):
                return found
        return None
    return None if a == b else f"{path}: {a!r} there, {b!r} now"


def refuse_another(there: Any, now: Any, holds: str, remedy: str) -> None:
    """Refuse to go on in a folder of another configuration.

    Args:
        there, now: plain values; keys of FREE_KEYS may differ.
        holds: what is there, such as "runs/a: holds a run of another configuration".
        remedy: what to do, such as "choose another --run or remove it".

    Raises:
        UserError: where they differ; it names the first key that does, with both values.
    """
    difference = first_difference(there, now)
    if difference:
        raise UserError(f"{holds} ({difference}); {remedy}")
