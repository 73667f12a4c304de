"""Strict configs: what YAML says is what the dataclass holds, and a mistake is one sentence with the key's path."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stylealign.config import MAX_DEPTH, from_dict, load_config, parse_json, read_json, read_yaml, save_config, to_dict
from stylealign.errors import LONGEST, UserError, shortened


@dataclass(frozen=True, kw_only=True, slots=True)
class Optim:
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    name: Literal["adam", "sgd"] = "adam"


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    run: Path
    optim: Optim = field(default_factory=Optim)
    steps: int = 10
    flip: bool = True
    data: tuple[Path, ...] = ()
    tags: dict[str, float] = field(default_factory=dict)
    limit: Annotated[int | None, "metadata"] = None
    note: str = ""
    size: int = 8

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError(f"steps is {self.steps}, expected at least 0")


text = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=20)
jobs = st.builds(
    Job,
    run=st.from_regex(r"[a-zé/ ]{1,10}", fullmatch=True).map(Path),
    optim=st.builds(
        Optim,
        lr=st.floats(allow_nan=False),
        betas=st.tuples(st.floats(0, 1), st.floats(0, 1)),
        name=st.sampled_from(["adam", "sgd"]),
    ),
    steps=st.integers(0, 10**12),
    flip=st.booleans(),
    data=st.lists(st.sampled_from([Path("a"), Path("b/c")]), max_size=3).map(tuple),
    tags=st.dictionaries(text, st.floats(allow_nan=False), max_size=3),
    limit=st.none() | st.integers(),
    note=text,
)


@given(jobs)
def test_a_config_goes_through_yaml_unchanged(tmp_path_factory: pytest.TempPathFactory, job: Job) -> None:
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    save_config(job, path)
    assert load_config(Job, path) == job


@given(jobs)
def test_a_config_goes_through_plain_values_unchanged(job: Job) -> None:
    assert from_dict(Job, to_dict(job)) == job


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optim": {"learning_rate": 1}}, "recipe.yaml.optim: unknown key 'learning_rate'; did you mean 'lr'?"),
        ({"batch": 1}, "recipe.yaml: unknown key 'batch'; known keys: run, optim,"),
        ({"stpes": 1}, "recipe.yaml: unknown key 'stpes'; did you mean 'steps'?"),
        ({"iterations": 1}, "did you mean 'steps'?"),
        ({"image_size": 1}, "did you mean 'size'?"),
        ({"steps": "ten"}, "recipe.yaml.steps: found 'ten', expected int"),
        ({"steps": 1.5}, "recipe.yaml.steps: found 1.5, expected int"),
        ({"steps": True}, "recipe.yaml.steps: found True, expected int"),
        ({"steps": -1}, "recipe.yaml: steps is -1, expected at least 0"),
        ({"flip": "yes"}, "recipe.yaml.flip: found 'yes', expected bool"),
        ({"flip": 1}, "recipe.yaml.flip: found 1, expected bool"),
        ({"optim": {"lr": "fast"}}, "recipe.yaml.optim.lr: found 'fast', expected a number"),
        ({"optim": {"lr": True}}, "expected a number"),
        ({"optim": {"lr": float("nan")}}, "recipe.yaml.optim.lr: found nan, expected a number"),
        ({"optim": {"betas": ["nan", 0.9]}}, "recipe.yaml.optim.betas[0]: found 'nan', expected a number"),
        ({"tags": {"a": "NaN"}}, "recipe.yaml.tags.a: found 'NaN', expected a number"),
        ({"optim": {"name": "adan"}}, "recipe.yaml.optim.name: found 'adan', expected one of 'adam', 'sgd'"),
        ({"optim": {"betas": [0.9]}}, "recipe.yaml.optim.betas: found 1 value, expected 2"),
        ({"optim": 3}, "recipe.yaml.optim: found 3, expected a mapping"),
        ({"data": "a"}, "recipe.yaml.data: found 'a', expected a list"),
        ({"data": ["a", 3]}, r"recipe.yaml.data[1]: found 3, expected"),
        ({"tags": []}, "recipe.yaml.tags: found [], expected a mapping"),
        ({"limit": "x"}, "recipe.yaml.limit: found 'x', expected int"),
    ],
)
def test_a_mistake_is_one_sentence_with_the_key(values: dict, message: str) -> None:
    with pytest.raises(UserError) as error:
        from_dict(Job, {"run": "r", **values}, "recipe.yaml")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(UserError, match="recipe: missing key run"):
        from_dict(Job, {}, "recipe")


@pytest.mark.parametrize(("written", "lr"), [("1e-4", 1e-4), ("1.0e-4", 1e-4), ("'0.1'", 0.1), ("3", 3.0), (".5", 0.5)])
def test_a_number_written_as_people_write_it_is_a_number(written: str, lr: float, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(f"run: r\noptim: {{lr: {written}}}\n")
    assert load_config(Job, tmp_path / "r.yaml").optim.lr == lr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"run: [", "r.yaml: not valid YAML"),
        (b"run: \xff", "r.yaml: cannot be read"),
        (b"!!python/object/apply:os.getcwd []", "not valid YAML"),
        (b"", "r.yaml: missing key run"),
        (b"- a", "r.yaml: found"),
        (b"2: 3", "r.yaml: unknown key '2'"),
    ],
)
def test_files_that_are_no_recipe_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(content)
    with pytest.raises(UserError) as error:
        load_config(Job, tmp_path / "r.yaml")
    assert message in str(error.value)


def test_a_key_that_yaml_takes_for_a_truth_is_the_word_that_was_written(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("on: slurm\narms: {no: {flip: yes}, off: {flip: no}}\n")
    assert read_yaml(tmp_path / "r.yaml") == {"on": "slurm", "arms": {"no": {"flip": True}, "off": {"flip": False}}}


def test_a_key_that_is_there_twice_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("arms:\n  mixture: {}\n  free: {}\n  mixture: {prob: 1}\n")
    with pytest.raises(UserError, match=r"r.yaml: not valid YAML: line 4: the key 'mixture' a second time"):
        read_yaml(tmp_path / "r.yaml")
    (tmp_path / "r.yaml").write_text("a: &a {b: 1, c: 2}\nd: {<<: *a, b: 3}\n")  # a merged key may be set anew
    assert read_yaml(tmp_path / "r.yaml")["d"] == {"b": 3, "c": 2}


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="cannot be read"):
        read_yaml(tmp_path)


# ------------------------------------------------------------------------------------------------- text of strangers


def laughs(levels: int) -> str:
    """Aliases of aliases: 10 ** levels values in 50 bytes a level."""
    parts = ["&a0 [1,1,1,1,1,1,1,1,1,1]"]
    parts += [f"&a{i + 1} [{','.join([f'*a{i}'] * 10)}]" for i in range(levels - 1)]
    return f"[{', '.join(parts)}]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:\n " + "[" * 3000, f"line 2: more than {MAX_DEPTH} levels"),
        ("[" * 100_000, f"line 1: more than {MAX_DEPTH} levels"),
        ("{a: " * 3000, "levels within each other"),
        ("- " * 3000, "levels within each other"),
        ("loop: " + laughs(9), "values in 6 levels with aliases written out, expected at most 50,000 in 64"),
        ("a: &x [*x]", "'x' stands for a value that holds itself"),
        ("a: &x {b: *x}", "holds itself"),
        ("a: 1\nb: " + "9" * 5000, "line 2: a number of 5,000 characters, expected at most 100"),
        ("a: 0x" + "f" * 5000, "a number of 5,002 characters"),
        ("a: " + "1:" * 400 + "1.5", "a number of 803 characters"),
        ("a: !!int x", "'x' is no int"),
        ("a: !!float x", "'x' is no float"),
        ("a: !!bool x", "'x' is no bool"),
        ("a: !!timestamp x", "'x' is no timestamp"),
        ("a: 2001-99-99", "'2001-99-99' is no timestamp"),
        ("a: !!binary aGk=", "the tag !!binary, expected plain values"),
        ("a: !!set {b, c}", "the tag !!set"),
        ("a: !!omap [b: 1]", "the tag !!omap"),
        ("a: !own b", "the tag !own"),
        ("!!python/object/apply:os.getcwd []", "the tag !!python/object/apply:os.getcwd"),
    ],
    ids=range(20),
)
def test_yaml_that_takes_memory_time_or_code_is_refused_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        read_yaml(tmp_path / "r.yaml")
    assert "r.yaml: not valid YAML: line " in str(error.value)
    assert message in str(error.value)
    assert len(str(error.value)) < 2000


def test_yaml_of_too_many_values_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stylealign.config.MAX_YAML_VALUES", 20)
    (tmp_path / "r.yaml").write_text("[" + "1," * 18 + "]")
    assert read_yaml(tmp_path / "r.yaml") == [1] * 18
    (tmp_path / "r.yaml").write_text("[" + "1," * 50 + "]")
    with pytest.raises(UserError, match="more than 20 values"):
        read_yaml(tmp_path / "r.yaml")


def test_aliases_and_merge_keys_within_the_limits_are_read(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("a: &x {b: 1, c: [2]}\nd: {<<: *x, b: 3}\ne: [*x, *x]\nf: 2001-01-02\n")
    found = read_yaml(tmp_path / "r.yaml")
    assert found["d"] == {"b": 3, "c": [2]}
    assert found["e"] == [{"b": 1, "c": [2]}] * 2
    for levels in (MAX_DEPTH, MAX_DEPTH + 1):
        (tmp_path / "r.yaml").write_text("[" * levels + "]" * levels)
        if levels == MAX_DEPTH:
            assert str(read_yaml(tmp_path / "r.yaml")) == "[" * levels + "]" * levels
        else:
            with pytest.raises(UserError, match="levels"):
                read_yaml(tmp_path / "r.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "x: JSON nested deeper than 64 levels"),
        ('{"a": ' * 70 + "1" + "}" * 70, "x: JSON nested deeper than 64 levels"),
        ("[" * 65 + "]" * 65, "x: JSON nested deeper than 64 levels"),
        ("[1, " + "9" * 5000 + "]", "x: a number of 5,000 digits, expected at most 100"),
        ("[1,\n 2", "x: not valid JSON (Expecting ',' delimiter at column 3)"),
        (b"\xff", "x: not valid JSON ("),
    ],
)
def test_json_that_cannot_be_meant_is_refused(text: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        parse_json(text, "x")
    assert str(error.value).startswith(message)
    (tmp_path / "y.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=r"y\.json"):
        read_json(tmp_path / "y.json")


def test_json_is_read_as_the_library_reads_it(tmp_path: Path) -> None:
    text = '{"a": [1, -2.5e3, null, true, "é"], "b": ' + "[" * 63 + "]" * 63 + ', "n": ' + "9" * 100 + "}"
    (tmp_path / "x.json").write_text(f"\ufeff{text}", encoding="utf-8")
    assert parse_json(text, "x") == parse_json(text.encode(), "x") == read_json(tmp_path / "x.json") == json.loads(text)
    (tmp_path / "x.json").write_text("{\n]")
    with pytest.raises(UserError, match=r"x\.json:2: not valid JSON"):
        read_json(tmp_path / "x.json")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "x.yaml", "wb") as file:
        file.truncate(1 << 40)  # takes no room on disk
    with pytest.raises(UserError, match=r"x\.yaml: larger than 1,000,000 bytes"):
        read_yaml(tmp_path / "x.yaml")
    with pytest.raises(UserError, match=r"x\.yaml: larger than 50 bytes"):
        read_json(tmp_path / "x.yaml", 50)


def test_a_number_too_large_for_a_float_is_named() -> None:
    with pytest.raises(UserError, match=r"r.optim.lr: found 10+, expected a number"):
        from_dict(Job, {"run": "r", "optim": {"lr": 10**400}}, "r")


def test_a_message_keeps_its_beginning_and_its_end_and_is_never_a_page() -> None:
    with pytest.raises(UserError) as error:
        from_dict(Job, {"run": "r", "note": list(range(1_000_000))}, "recipe.yaml")
    said = str(error.value)
    assert len(said) <= LONGEST < 2000
    assert said.startswith("recipe.yaml.note: found [0, 1, 2,")
    assert said.endswith("expected str")
    assert "characters left out" in said
    assert shortened("short") == "short"
    assert len(str(UserError(f"again: {error.value}"))) <= LONGEST
