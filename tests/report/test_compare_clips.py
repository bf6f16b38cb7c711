"""What the comparison page has of each trial's clips: other ratios, the ratio curve, classes."""

import array

import numpy as np
import pytest

from browser import NEEDED, drawn, js, size
from pipeline.report.compare.compare_record import collect
from pipeline.report.compare.page import build_page
from pipeline.shared.clip_scores import ClipScores
from pipeline.shared.files import append_line, write_json
from pipeline.shared.measurement import Measurement
from pipeline.shared.predictions import Predictions
from pipeline.shared.rundir import RunDir

pytestmark = NEEDED
METRIC = "acc/RGBPose_1:1_top1"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A sweep of two trials; only the first kept its scores."""
    root = tmp_path_factory.mktemp("clips") / "runs" / "demo"
    for variant, scored in (("baseline", True), ("old", False)):
        run = RunDir(root / variant / "0")
        run.predictions.mkdir(parents=True)
        write_json(run.spec, {"sweep": "demo", "variant": variant, "number": 0, "metric": METRIC})
        write_json(run.outcome, {"state": "COMPLETE", "reason": "All epochs are done."})
        keep(run, scored)
    return root


def keep(run, scored):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 200)
    tables = {name: rng.dirichlet(np.ones(4), 200) for name in ("rgb", "pose")}
    for table in tables.values():
        table[np.arange(200), labels] += 0.4
    guess = (tables["rgb"] + tables["pose"]).argmax(axis=1)
    top1 = float((guess == labels).mean())
    extra = {"acc/RGBPose_2:1_top1": 0.61, "acc/RGBPose_1:2_top1": 0.62}
    append_line(run.measurements, Measurement(epoch=1, top1=top1, extra=extra).to_line())
    columns = [array.array("H", one.tolist()) for one in (guess, labels)]
    made = Predictions(1, METRIC, top1, "ids", *columns)
    run.predictions_of(1).write_bytes(made.to_bytes())
    if scored:
        packed = {name: table.astype("<f2").tobytes() for name, table in tables.items()}
        names = [f"clip{i}" for i in range(200)]
        kept = ClipScores(1, METRIC, top1, "ids", 4, labels.tolist(), names, [""] * 200, packed)
        run.scores_of(1).write_bytes(kept.to_bytes())


def test_a_trial_has_its_other_ratios_its_curve_and_its_classes(runs):
    first, second = collect(runs)["trials"]
    assert first["ratios"] == {"2:1": 0.61, "1:2": 0.62}
    at_half = first["ratio_curve"]["top1"][first["ratio_curve"]["share"].index(0.5)]
    assert at_half == pytest.approx(first["top1"][0], abs=1 / 200)
    kept = Predictions.from_bytes(RunDir(runs / "baseline" / "0").predictions_of(1).read_bytes())
    labels, guess = np.array(kept.labels), np.array(kept.predicted)
    shares = [float((guess == labels)[labels == c].mean()) for c in range(4)]
    assert first["class_top1"] == pytest.approx(shares)
    assert second["ratio_curve"] is None and second["class_top1"] == pytest.approx(shares)


def test_the_page_draws_the_curve_and_a_row_a_class(browser, runs, tmp_path):
    file = tmp_path / "compare.html"
    build_page(collect(runs), file)
    size(browser, 1280, 1000)
    browser.get(file.as_uri())
    drawn(browser)
    assert js(browser, "return document.querySelectorAll('#classes tbody tr').length") == 4
    assert js(browser, "return document.querySelectorAll('#classes td.heat').length") == 8
    label = "return document.getElementById('chart-ratio').getAttribute('aria-label')"
    assert "baseline/0 is best with" in js(browser, label)
    head = "return [...document.querySelectorAll('#table th')].map((h) => h.textContent).join()"
    assert "RGB:pose 2:1" in js(browser, head)
