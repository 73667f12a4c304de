"""The page: whole, self-contained, escaped; it shows what is in the folders and refuses what is not a folder of ours."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from dots import dots
from stylealign.errors import UserError
from stylealign.evaluate import Evaluate, evaluate
from stylealign.image import write_image
from stylealign.report import Report, embed, main, read_curves, report
from test_evaluate import predict

VOID = {"meta", "img", "br"}


class Checker(HTMLParser):
    """Every tag closed in order; what the page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href")]
        self.ids |= {value or "" for name, value in attrs if name == "id"}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    root = tmp_path_factory.mktemp("report")
    data = dots(root / "data", 6, splits=("test",), name="<dots & dots>")
    predict(root / "p.jsonl", data, 0.02)
    evaluate(Evaluate(data=root / "data", arms=(f"a={root}/p.jsonl",), out=root / "evaluation", draw=2, resamples=200))
    noise = np.random.default_rng(0).integers(0, 256, (500, 500, 3), dtype=np.uint8)
    (root / "data" / "sheets").mkdir()
    write_image(root / "data" / "sheets" / "sheet_00.png", noise)
    run = root / "run"
    (run / "previews").mkdir(parents=True)
    for step in (10, 20, 30, 40):
        write_image(run / "previews" / f"step_{step:08d}.png", noise[:16, :16])
    (run / "config.yaml").write_text("run: <here>\n")
    (run / "card.json").write_text(
        json.dumps(
            {"kind": "translator", "model": "vunet", "schema": {"name": "five"}, "crop": {"size": 32}, "step": 40}
        )
    )
    lines = [{"step": s, "total": 10.0 / s, "kl": 0.0, "images_seen": s * 4} for s in (10, 20, 30)] + [
        {"step": 30, "evaluate/nme": 0.05}
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 40, "to')
    judge = {"faces": 36, "real_nme": 0.05, "swap_nme": 0.0612, "gap": 0.0112, "parts": {"eyes": {"real": 0.04, "swap": 0.0589}},
             "style_distance": {"to_style": 0.1, "to_content": 0.3}, "held_out": True}  # fmt: skip
    (run / "judge.json").write_text(json.dumps(judge))
    return root / "evaluation", run, root / "data"


def test_the_page_is_one_whole_file_without_outside_links(inputs: tuple[Path, ...], tmp_path: Path) -> None:
    out = report(Report(inputs=inputs, out=tmp_path / "new" / "page.html", title="Faces <1>"))
    text = out.read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert all(r.startswith("data:image/") or r[1:] in checker.ids for r in checker.references)
    assert not re.search(r"https?:|url\(|@import|<script", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text))
    # ced, per_point, worst, median, best; two curves, three previews; one sheet
    assert sum(r.startswith("data:image/") for r in checker.references) == 5 + 5 + 1
    assert [p.name for p in out.parent.iterdir()] == ["page.html"]


def test_the_page_shows_what_the_folders_say(inputs: tuple[Path, ...], tmp_path: Path) -> None:
    text = report(Report(inputs=inputs, out=tmp_path / "page.html", title="Faces <1>")).read_text(encoding="utf-8")
    shown = ["Faces &lt;1&gt;", "Evaluation evaluation", "Run run", "Dataset data", "2.000", "inter_pupil", "6 faces", "6.12", "5.89", "to style 0.1",
             "&lt;dots &amp; dots&gt;", "run: &lt;here&gt;", "sheet_00.png", "width=device-width"]  # fmt: skip
    for words in shown:
        assert words in text, words
    assert "<dots" not in text
    assert "<here>" not in text


def test_a_report_is_replaced_but_no_other_file(inputs: tuple[Path, ...], tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    main(Report(inputs=inputs[1:], out=out))
    main(Report(inputs=inputs[1:2], out=out))
    out.write_text("my own page")
    with pytest.raises(UserError, match="not a report of ours"):
        report(Report(inputs=inputs[1:], out=out))
    with pytest.raises(UserError, match="a folder; expected the name of the page"):
        report(Report(inputs=inputs, out=tmp_path))
    assert out.read_text() == "my own page"


def test_folders_that_hold_nothing_of_ours_are_refused(tmp_path: Path) -> None:
    for folder, message in ((tmp_path, "holds none of evaluation.json"), (tmp_path / "none", "does not exist")):
        with pytest.raises(UserError, match=message):
            report(Report(inputs=(folder,), out=tmp_path / "page.html"))
    (tmp_path / "evaluation.json").write_text("{}")
    with pytest.raises(UserError, match="not an evaluation of this version"):
        report(Report(inputs=(tmp_path,), out=tmp_path / "page.html"))
    (tmp_path / "evaluation.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        report(Report(inputs=(tmp_path,), out=tmp_path / "page.html"))


def test_curves_survive_a_line_cut_short_by_a_kill_but_not_a_broken_file(
    inputs: tuple[Path, ...], tmp_path: Path
) -> None:
    curves = read_curves(inputs[1] / "metrics.jsonl")
    assert set(curves) == {"total", "kl", "evaluate/nme"}
    np.testing.assert_allclose(curves["total"], [[10, 20, 30], [1, 0.5, 1 / 3]])
    (tmp_path / "m.jsonl").write_text('{"step"\n{"step": 1}\n')
    with pytest.raises(UserError, match=r"m\.jsonl:1"):
        read_curves(tmp_path / "m.jsonl")


def test_large_photographs_are_embedded_as_jpeg_and_small_ones_untouched(inputs: tuple[Path, ...]) -> None:
    big = inputs[2] / "sheets" / "sheet_00.png"
    assert embed(big).startswith("data:image/jpeg;base64,")
    assert len(embed(big)) < big.stat().st_size
    assert embed(inputs[0] / "ced.png").startswith("data:image/png;base64,")
