"""Strict configs: what YAML says is what the dataclass holds, and a mistake is one sentence with the key's path."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stylealign.config import from_dict, load_config, read_yaml, save_config, to_dict
from stylealign.errors import UserError


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
        ({"optim": {"name": "adan"}}, "recipe.yaml.optim.name: found 'adan', expected one of 'adam', 'sgd'"),
        ({"optim": {"betas": [0.9]}}, "recipe.yaml.optim.betas: found 1 values, expected 2"),
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


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="cannot be read"):
        read_yaml(tmp_path)
