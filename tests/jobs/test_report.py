"""The page: whole, self-contained, escaped; it shows what is in our folders and refuses others."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from builders.answers import predict
from builders.dots import dots
from stylealign.data.image import read_image, write_image
from stylealign.errors import UserError
from stylealign.jobs.evaluate.job import Evaluate, evaluate
from stylealign.jobs.report.faces import TILE, faces_by_split
from stylealign.jobs.report.job import Report, main, report
from stylealign.jobs.report.page import embed
from stylealign.jobs.report.sections import read_curves
from stylealign.jobs.report.verdict import comparison, evaluation_verdict, run_verdict, study_verdict

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
    judge = {
        "faces": 36, "real_nme": 0.05, "swap_nme": 0.0612, "gap": 0.0112,
        "parts": {"eyes": {"real": 0.04, "swap": 0.0589}},
        "style_distance": {"to_style": 0.1, "to_content": 0.3}, "held_out": True,
    }  # fmt: skip
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
    shown = [
        "Faces &lt;1&gt;", ">Evaluation<", ">Run<", f"Data set: {inputs[-1].parent.name}<", "2.000", "inter_pupil",
        "6 faces", "6.12", "5.89", "to style 0.1", "&lt;dots &amp; dots&gt;", "run: &lt;here&gt;", "sheet_00.png",
        "width=device-width",
    ]  # fmt: skip
    for words in shown:
        assert words in text, words
    assert "<dots" not in text
    assert "<here>" not in text


def test_a_data_set_without_sheets_shows_faces_of_each_split_and_of_what_cannot_be_read_nothing(tmp_path: Path) -> None:
    data = dots(tmp_path / "data", 5, splits=("train", "train", "train", "train", "test")).folder
    shown = list(faces_by_split(data))
    assert [caption for caption, _ in shown] == ["Split train: 4 faces", "Split test: 1 face"]
    wide, alone = (read_image(Path("sheet.jpg"), content=picture) for _, picture in shown)
    assert len(wide) == len(alone) == TILE + 8
    assert wide.shape[1] == 4 * (TILE + 4) + 4
    page = report(Report(inputs=(data,), out=tmp_path / "page.html", about="What <this> is.")).read_text()
    assert "<p>What &lt;this&gt; is.</p>" in page
    assert page.count("data:image/jpeg") == 2
    for picture in (tmp_path / "data_pictures").glob("*"):
        picture.unlink()
    assert list(faces_by_split(data)) == []


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
    (tmp_path / "m.jsonl").write_text(json.dumps({f"term {i}": 1.0 for i in range(101)}) + "\n")
    with pytest.raises(UserError, match=r"m\.jsonl:1: more than 100 different names"):
        read_curves(tmp_path / "m.jsonl")


def test_large_photographs_are_embedded_as_jpeg_and_small_ones_untouched(inputs: tuple[Path, ...]) -> None:
    big = inputs[2] / "sheets" / "sheet_00.png"
    assert embed(big).startswith("data:image/jpeg;base64,")
    assert len(embed(big)) < big.stat().st_size
    assert embed(inputs[0] / "ced.png").startswith("data:image/png;base64,")


def test_a_study_is_shown_with_its_curve_tables_and_protocol(tmp_path: Path) -> None:
    def arm(name: str, labels: int, nme: float) -> dict[str, object]:
        figure = {"mean": nme, "sd": 0.001}
        rates = {"0.08": figure, "0.10": figure}
        return {
            "name": name,
            "labels": labels,
            "seeds": 3,
            "nme": figure,
            "failure_rate": rates,
            "auc": rates,
            "subsets": {},
        }

    pair = {
        "arm": "style", "baseline": "none", "difference": -0.0123, "low": -0.02, "high": -0.004, "relative": None,
        "low_faces": -0.02, "high_faces": -0.004, "seeds": None, "p_wilcoxon": 0.01, "better": 5, "worse": 1,
    }  # fmt: skip
    blocks = [
        {"budget": f"few_{n}", "arms": [arm("none", n, 0.06), arm("style", n, 0.05)], "paired": [pair]} for n in (8, 32)
    ]
    row = {
        "parameters": 10**6, "trainable": 10**6, "macs": 10**6, "updates": 40, "batch_size": 8,
        "seconds_per_update": 0.1, "crop": "square", "trained_on": "<dots>",
    }  # fmt: skip
    data = {"name": "dots", "split": "test", "faces": 6, "points": 5, "schema": "five", "content_hash": "0"}
    found = {
        "data": data, "rows": [{"name": name, **row} for name in ("none", "style")],
        "sets": [
            {"name": "dots test", "role": "test", "dataset": data, "denominator": "inter_pupil", "blocks": blocks},
        ],
    }  # fmt: skip
    (tmp_path / "study.json").write_text(json.dumps(found))
    text = report(Report(inputs=(tmp_path,), out=tmp_path / "page.html")).read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert sum(r.startswith("data:image/png") for r in checker.references) == 1  # the curve
    for words in (
        "style - none",
        "-1.230",
        "-2.000 to -0.400",
        "dots test, labels: few_8",
        "labels: few_32",
        "5.00 ± 0.10",
        "&lt;dots&gt;",
    ):
        assert words in text, words
    (tmp_path / "study.json").write_text('{"sets": []}')
    with pytest.raises(UserError, match="not a study of this version"):
        report(Report(inputs=(tmp_path,), out=tmp_path / "page.html"))


def test_predictions_are_shown_with_what_was_left_out(tmp_path: Path) -> None:
    video = {"frames": 30, "frames_with_faces": 28, "tracks": 2, "lost": 1, "jitter": 0.0042}
    still = {"frames": 1, "frames_with_faces": 1, "tracks": 1, "lost": 0, "jitter": None}
    summary = {
        "faces": 40, "pictures_and_frames": 33, "left_out": ["<nobody>.png: no face found"],
        "videos": {"a.mp4": video, "b.mp4": still}, "timing": {"faces_per_s": 12.5}, "model_hash": "abc",
        "schema": "five",
    }  # fmt: skip
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    for i in range(26):
        path = tmp_path / "drawn" / ("outside" if i % 2 else "inside") / f"{i:02d}_landmarks.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, np.full((8, 8, 3), 9 * i, np.uint8))
    text = report(Report(inputs=(tmp_path,), out=tmp_path / "page.html")).read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert sum(r.startswith("data:image/jpeg") for r in checker.references) == 24
    for words in (
        "the first 24 of 26 overlays", "&lt;nobody&gt;.png: no face found", "a.mp4", "0.42", "Left out: 1",
        "<td>b.mp4</td><td>1</td><td>1</td><td>1</td><td>0</td><td>–</td>", ">inside/02_landmarks<",
    ):  # fmt: skip
        assert words in text, words


def test_numbers_that_are_no_text_are_refused_by_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "total": 2.0}\n{"step": 2, "total": "\xff"}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl: not UTF-8 text \(byte 48\)"):
        read_curves(path)


# --------------------------------------------------------------------------------------------------------------------
# The first sentence


def pair(arm: str, difference: float, low: float, high: float, seeds: int = 0) -> dict:
    over = {"low": low - 0.001, "high": high + 0.001, "seeds": seeds} if seeds else None
    return {"arm": arm, "baseline": "real", "difference": difference, "low": low, "high": high, "over_seeds": over}


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (
            pair("real+synthetic", -0.003, -0.006, -0.0005, seeds=3),
            "Synthetic faces lowered the error by 0.30 points, but the interval over faces and 3 seeds "
            "(-0.70 to +0.05) includes 0: not shown.",
        ),
        (
            pair("real+synthetic", -0.003, -0.004, -0.002, seeds=3),
            "Synthetic faces lowered the error by 0.30 points (95 % interval over faces and 3 seeds 0.10 to 0.50).",
        ),
        (
            pair("mine", 0.01, 0.006, 0.019, seeds=5),
            "Mine raised the error by 1.00 points against real (95 % interval over faces and 5 seeds 0.50 to 2.00).",
        ),
        (
            pair("real+synthetic", -0.003, -0.005, -0.001),
            "With synthetic faces the error is 0.30 points lower (95 % interval over faces alone -0.50 to -0.10); "
            "whether that pays takes 3 seeds of both.",
        ),
        (
            pair("mine", 0.01, 0.005, 0.02),
            "With mine the error is 1.00 points higher than with real (95 % interval over faces alone +0.50 to +2.00); "
            "whether that pays takes 3 seeds of both.",
        ),
    ],
)  # fmt: skip
def test_a_comparison_is_a_sentence_that_says_whether_it_is_shown(found: dict, sentence: str) -> None:
    assert comparison(found) == sentence


@pytest.mark.parametrize("order", [(8, 32), (32, 8)])
def test_a_study_is_told_by_its_most_labels_in_whatever_order_budgets_were_given(order: tuple[int, ...]) -> None:
    blocks = [
        {"budget": f"few_{n}", "arms": [{"name": "A", "labels": n, "nme": {"mean": 1 / n}}], "paired": []}
        for n in order
    ]
    study = {"rows": [], "sets": [{"name": "d test", "role": "test", "blocks": blocks}]}
    assert study_verdict(study) == "A has the least error, 3.12 % (d test, labels: few_32)."


def test_of_several_arms_the_best_is_told_first_and_then_each_of_the_others() -> None:
    nme = {"mean": 0.1, "low": 0.09, "high": 0.11}
    pairs = [
        {"arm": arm, "baseline": "none", "difference": d, "low": d - 0.01, "high": d + 0.01}
        for arm, d in (("jitter", -0.005), ("AVS", -0.02), ("mixture", -0.03), ("noise", 0.025))
    ]
    arms = [{"name": p["arm"], "nme": {**nme, "mean": 0.1 + p["difference"]}} for p in pairs] + [
        {"name": "none", "nme": nme}
    ]
    data = {"faces": 120, "split": "test"}
    said = evaluation_verdict({"arms": arms, "paired": pairs, "dataset": data, "denominator": "inter_ocular"})
    assert said.startswith(
        "With mixture the error is 3.00 points lower than with none (95 % interval over faces alone -4.00 to -2.00); "
        "whether that pays takes 3 seeds of both. Mixture is the best here"
    )
    assert said.endswith(
        "Likewise against none, in points: AVS -2.00 (-3.00 to -1.00); jitter -0.50 (-1.50 to +0.50, not shown); "
        "noise +2.50 (+1.50 to +3.50)."
    )
    arms[0]["learnt_from"] = 7
    learnt = evaluation_verdict({"arms": arms, "paired": pairs, "dataset": data, "denominator": "inter_ocular"})
    told = " Learnt from these very faces: jitter from 7 of 120; its error says little of others."
    assert learnt == said + told
    alone = evaluation_verdict({"arms": arms[:1], "paired": [], "dataset": data, "denominator": "inter_ocular"})
    assert alone.endswith(told)


@pytest.mark.parametrize(
    ("learnt", "said"),
    [
        ([{"content_hash": "a", "split": "train"}], " that it did not learn from."),
        ([{"content_hash": "b", "split": "val"}], " that it did not learn from."),
        ([{"content_hash": "a", "split": "val"}], ", which it learnt from: that says little of others."),
        ([{"content_hash": "a"}], ", which it learnt from: that says little of others."),
        (
            [{"content_hash": "a", "split": "val", "subset": "few_8"}],
            ", some of which it learnt from: that says little of others.",
        ),
    ],
)
def test_a_run_is_said_to_be_measured_on_other_faces_only_where_it_is(learnt: list[dict], said: str) -> None:
    val = {"nme": 0.0312, "denominator": "box", "name": "d", "faces": 20, "content_hash": "a", "split": "val"}
    card = {"kind": "detector", "model": "resnet18", "data": learnt, "val": val}
    assert run_verdict(card).endswith(f" on 20 faces of d{said}")
    started = {**card, "data": [], "start": {"data": learnt}}
    assert run_verdict(started) == run_verdict(card)
    unknown = {**card, "val": {key: value for key, value in val.items() if key != "content_hash"}}
    assert run_verdict(unknown).endswith(" on 20 faces of d.")


def test_a_page_begins_with_what_was_found_then_pictures_then_tables(inputs: tuple[Path, ...], tmp_path: Path) -> None:
    text = report(Report(inputs=inputs, out=tmp_path / "page.html")).read_text(encoding="utf-8")
    lead = re.search(r'<p class="lead">(.*?)</p>', text)
    assert lead
    assert lead[1].startswith(
        "A has a mean error of 2.00 % of the distance of the eye centres on 6 faces of split test"
    )
    assert "with so few faces that is rough" in lead[1]
    section = text[text.index('id="s0"') : text.index('id="s1"')]
    assert section.index("<img") < section.index("<table")
    assert section.rindex("<img") < section.index("<table")
