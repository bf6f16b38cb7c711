"""`pcan sweep report`: its files, its numbers, its figures, and names that others might run."""

import copy
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from pipeline.errors import InputError, NoResult
from pipeline.report.compare.compare_record import collect
from pipeline.report.paper.paper_tables import results_csv, table_md, table_tex
from pipeline.report.paper.report_folder import FILES, write_report
from pipeline.report.paper.story import story
from pipeline.report.paper.sweep_summary import summary_of
from pipeline.results import open_sweep
from recorded_sweep import record_sweep, record_trial

ROOT = Path(__file__).parents[2]
HOSTILE = r'a_%&#{}$^~\<script>alert(1)</script>"|`=cmd'


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_sweep(tmp_path_factory.mktemp("project") / "runs" / "lab")


@pytest.fixture(scope="module")
def data(runs: Path) -> dict[str, Any]:
    return json.loads(json.dumps(collect(runs)))


@pytest.fixture(scope="module")
def paper(runs: Path, data: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "paper"
    write_report(data, runs, folder)
    return folder


def test_the_same_run_directories_give_the_same_bytes(
    runs: Path, paper: Path, tmp_path: Path
) -> None:
    copied = shutil.copytree(runs, tmp_path / "usb" / "lab")
    write_report(collect(copied), copied, tmp_path / "again")
    assert sorted(file.name for file in paper.iterdir()) == sorted(FILES)
    for name in FILES:
        assert (paper / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_results_are_those_of_compare_json(data: dict[str, Any], paper: Path) -> None:
    rows = list(csv.DictReader(io.StringIO((paper / "results.csv").read_text())))
    assert [row["trial"] for row in rows] == [trial["id"] for trial in data["trials"]]
    for row, trial in zip(rows, data["trials"], strict=True):
        assert float(row["top1"]) == max(trial["top1"])
        assert float(row["std_error"]) == trial["std_error"]
        assert int(row["clips"]) == trial["clips"]
    pairs = {frozenset((d["a"], d["b"])): d for d in data["differences"]}
    for row in rows:
        if row["p_adjusted"]:
            pair = pairs[frozenset(("lr_high/0", row["trial"]))]
            assert float(row["p_adjusted"]) == pair["p_adjusted"]
            assert float(row["difference_to_winner"]) == -pair["difference"]
    points = list(csv.DictReader(io.StringIO((paper / "epochs.csv").read_text())))
    read = [float(point["top1"]) for point in points if point["trial"] == "baseline/0"]
    assert read == data["trials"][0]["top1"]


def numbers_of(value: Any) -> set[float]:
    if isinstance(value, dict):
        return set().union(*(numbers_of(one) for one in value.values()))
    if isinstance(value, list):
        return {float(len(value))}.union(*(numbers_of(one) for one in value))
    if isinstance(value, str):  # a sentence of the record
        return {float(word) for word in re.findall(r"(?<![\w.])\d+(?:\.\d+)?", value)}
    return {float(value)} if isinstance(value, int | float) else set()


@pytest.mark.parametrize("name", ["table.md", "table.tex", "methods.md"])
def test_no_number_is_in_the_text_that_the_record_does_not_hold(
    data: dict[str, Any], paper: Path, name: str
) -> None:
    trials = data["trials"]
    known = {*numbers_of(data), 0.05, 100 * sum(trial["gpu_hours"] for trial in trials) / 100}
    known |= {sum(trial["state"] == state for trial in trials) for state in ("COMPLETE", "PRUNED")}
    known |= {len({trial["variant"] for trial in trials}), sum(len(t["epochs"]) for t in trials)}
    known |= {sum(bool(pair["real"]) for pair in data["differences"]), 0.001, 2, 0}
    allowed = {f"{abs(v):.{d}f}" for n in known for v in (n, 100 * n) for d in range(5)}
    text = re.sub(r"torch \S+|\[@\w+\]|\\label\{.*", "", (paper / name).read_text())
    found = re.findall(r"(?<![\w.@/-])\d+(?:\.\d+)?(?![\w/])", text)
    assert found and not [word for word in found if word not in allowed]


def test_a_reader_of_the_folder_can_name_what_won(paper: Path) -> None:
    text = (paper / "methods.md").read_text().replace("\\", "")
    for part in ("93.00 % (standard error 1.28 points) of lr_high/0", "400 validation clips"):
        assert part in text
    assert "above baseline/0" in text and "1a2b3c4d on main" in text
    assert "mean of 91.50 %" in text
    cited = set(re.findall(r"@(\w+)\]", text))
    assert cited == set(re.findall(r"@\w+\{(\w+),", (paper / "references.bib").read_text()))


def renamed(data: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the record as if the winner's variant had another name."""
    text = json.dumps(data).replace("lr_high", json.dumps(name)[1:-1])
    changed: dict[str, Any] = json.loads(text)
    return changed


def test_names_are_text_in_latex_markdown_svg_and_csv(
    runs: Path, data: dict[str, Any], tmp_path: Path
) -> None:
    hostile = renamed(data, HOSTILE)
    write_report(hostile, runs, tmp_path / "out")
    tex = (tmp_path / "out" / "table.tex").read_text()
    assert r"a\_\%\&\#\{\}\$\textasciicircum{}\textasciitilde{}\textbackslash{}" in tex
    markdown = (tmp_path / "out" / "table.md").read_text()
    assert "<script>" not in markdown and "&lt;script&gt;" in markdown
    for name in ("curves.svg", "ladder.svg"):
        tree = ElementTree.parse(tmp_path / "out" / name)
        assert not [one for one in tree.iter() if one.tag.endswith("script")]
        assert "a_%&#{}$^~" in "".join(tree.getroot().itertext()), name


def test_a_difference_of_nothing_has_no_sign(data: dict[str, Any]) -> None:
    equal = copy.deepcopy(data)
    for pair in equal["differences"]:
        pair["difference"] = 0.0
    assert "−0.00" not in table_md(summary_of(equal)) and "| 0.00 ±" in table_md(summary_of(equal))


@pytest.mark.parametrize("start", ["=cmd|' /C calc'!A0", "+1", "-2+3", "@SUM(A1)", "\tx", "＝cmd"])
def test_a_spreadsheet_runs_no_cell(data: dict[str, Any], start: str) -> None:
    hostile = copy.deepcopy(data)
    hostile["trials"][0] |= {"reason": start, "params": {start: start}}
    rows = list(csv.reader(io.StringIO(results_csv(summary_of(hostile)))))
    cells = [cell for row in rows for cell in row if start in cell]
    assert sorted(cells) == sorted([f"'{start}", f"'{start}", f"value {start}"])


def test_latex_sets_the_table(data: dict[str, Any], tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        if os.environ.get("PCAN_REQUIRE_ENGINES"):
            pytest.fail("pdflatex is required here (Debian: texlive-latex-recommended)")
        pytest.skip("pdflatex is not installed")
    table = table_tex(summary_of(renamed(data, HOSTILE)))
    page = r"\documentclass[twocolumn]{article}\usepackage{booktabs}\begin{document}"
    (tmp_path / "p.tex").write_text(f"{page}\n{table}\n\\end{{document}}\n")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "p.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "p.pdf").stat().st_size > 1000


def test_without_a_complete_trial_there_is_a_report_and_no_winner(tmp_path: Path) -> None:
    runs = tmp_path / "runs" / "cut"
    record_trial(runs, "a", 0, [0.5], state="PRUNED")
    record_trial(runs, "b", 0, [0.6], state=None, clips=None)
    record_trial(runs, "c", 0, [], state="FAIL")
    summary = write_report(collect(runs), runs, tmp_path / "out")
    assert summary.winner is None and [row.variant for row in summary.rows] == ["b", "a", "c"]
    assert "No trial is complete" in (tmp_path / "out" / "table.md").read_text()
    assert "there is no result" in (tmp_path / "out" / "methods.md").read_text()
    assert (tmp_path / "out" / "curves.svg").read_text().count("60.0 %") == 1


def test_a_sweep_that_measured_nothing_is_one_sentence(tmp_path: Path) -> None:
    runs = tmp_path / "runs" / "new"
    record_trial(runs, "a", 0, [], state=None)
    with pytest.raises(NoResult, match="has measured no epoch yet"):
        write_report(collect(runs), runs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_a_report_is_left_alone(
    runs: Path, data: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="exists and is not a report"):
        write_report(data, runs, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_the_diary_is_in_order_of_time_and_says_what_it_cost(
    runs: Path, data: dict[str, Any]
) -> None:
    text = story(open_sweep(runs), summary_of(data), price=2.5).replace("\\", "")
    lines = [line for line in text.splitlines() if line.startswith("- 00:")]
    assert lines == sorted(lines, key=lambda line: line[:7])
    assert "lr_low/0 after epoch 2: prune. under the floor. The plan's next step: lr_high." in text
    assert "baseline/1 was started to repeat baseline/0 on seed 1" in text
    assert "1.20 process hours, 3.00 at 2.5 an hour." in text


def test_commands_work_on_run_directories_without_their_storage(
    runs: Path, tmp_path: Path
) -> None:
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "wandb.yaml").touch()
    (tmp_path / "sweeps" / "lab.yaml").write_text(
        "name: lab\nconfig: c.py\nobjective: {metric: acc/top1, goal: 0.9}\n"
        "variants: {baseline: {set: {}}, lr_high: {set: {}}, lr_low: {set: {}}}\n"
        "ladder: {start: baseline}\n"
    )
    shutil.copytree(runs, tmp_path / "runs" / "lab")
    report = json.loads(pcan(tmp_path, "sweep", "report", "lab", "--json"))
    assert (report["winner"], report["files"]) == ("lr_high/0", list(FILES))
    assert report.keys() == {"schema", "sweep", "winner", "files"}
    diary = json.loads(pcan(tmp_path, "sweep", "story", "lab", "--json"))
    assert diary.keys() == {"schema", "sweep", "gpu_hours", "price", "text"}
    brief = json.loads(pcan(tmp_path, "sweep", "brief", "lab", "--json"))
    assert brief.keys() == BRIEF
    rows = list(csv.DictReader(io.StringIO(pcan(tmp_path, "sweep", "compare", "lab", "--csv"))))
    assert {row["trial"] for row in rows} >= {"lr_high/0", "lr_low/0"}
    log = str(tmp_path / "runs" / "lab" / "lr_high" / "0")
    epochs = list(csv.DictReader(io.StringIO(pcan(tmp_path, "log", log, "--csv"))))
    assert [float(row["top1"]) for row in epochs] == [0.5, 0.7, 0.8, 0.9, 0.93]
    found = list(csv.DictReader(io.StringIO(pcan(tmp_path, "diagnose", log, "--csv"))))
    assert found and set(found[0]) >= {"log", "id", "severity", "evidence"}


BRIEF = {
    *("schema", "sweep", "state", "best", "goal", "running"),
    *("real_differences", "next", "avoid"),
}


def pcan(root: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli.main", *words],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_table_in_markdown_has_as_many_cells_in_each_row(data: dict[str, Any]) -> None:
    text = table_md(summary_of(renamed(data, "a|b")))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {8}


def test_a_sweep_of_one_variant_has_its_best_trials_as_rows(tmp_path: Path) -> None:
    runs = tmp_path / "runs" / "search"
    for number in range(14):
        record_trial(runs, "a", number, [0.5 + number / 100], values={"lr": number})
    summary = write_report(collect(runs), runs, tmp_path / "out")
    assert [row.label for row in summary.rows][:2] == ["a/13", "a/12"] and len(summary.rows) == 10
    assert summary.winner is not None and summary.winner.epoch == 1


def test_a_chinese_report_has_the_same_numbers_and_chinese_words(
    runs: Path, data: dict[str, Any], paper: Path, tmp_path: Path
) -> None:
    write_report(data, runs, tmp_path / "zh", lang="zh")
    for name, words in {
        "table.md": ("Top-1（%）", "差异为在相同片段上与 lr\\_high/0 相比", "已停止"),
        "table.tex": ("ctex", "各种子均值（\\%）"),
        "appendix.md": ("# 附录", "## 判定", "这样的差异偶然也会出现", "lab 的日志"),
        "methods.md": ("# 方法",),
    }.items():
        text = (tmp_path / "zh" / name).read_text()
        assert not [word for word in words if word not in text], name
    cells = [
        re.findall(r"\d+\.\d\d", (f / "table.md").read_text()) for f in (paper, tmp_path / "zh")
    ]
    assert cells[0] == cells[1]
    for name in ("results.csv", "epochs.csv"):
        assert (paper / name).read_bytes() == (tmp_path / "zh" / name).read_bytes()


@pytest.mark.parametrize("font", [None, "DejaVu Serif"])
def test_labels_of_figures_are_chinese_only_where_a_font_can_write_them(
    runs: Path, data: dict[str, Any], tmp_path: Path, monkeypatch: Any, font: str | None
) -> None:
    monkeypatch.setattr("pipeline.report.paper.figures.chinese_font", lambda: font)
    write_report(data, runs, tmp_path / "zh", lang="zh")
    shown = (tmp_path / "zh" / "curves.svg").read_text()
    assert ("学习率" in shown, "learning rate" in shown) == (font is not None, font is None)
