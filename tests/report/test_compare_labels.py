"""Labels of drawn plans in a real browser: none lies on another, none sticks out, at any width."""

import itertools
import re

import pytest

from browser import NEEDED, click, drawn, fits, js, size, waiting
from pipeline.report.compare.compare_record import collect
from pipeline.report.compare.page import build_page
from pipeline.shared.files import write_json
from pipeline.shared.measurement import Measurement

pytestmark = NEEDED
#: The text boxes of the labels, and the box of the chart.
BOXES = """
const chart = document.getElementById("chart-top1"), frame = chart.getBoundingClientRect();
const wanted = /^(floor|target|goal|best known|下限|目标)|[↓↑]$/;
return [...chart.querySelectorAll("text")].filter((t) => wanted.test(t.textContent.trim()))
  .map((t) => { const b = t.getBoundingClientRect();
    return [t.textContent, b.left - frame.left, b.top, b.right - frame.left, b.bottom,
      frame.width]; });
"""


def run(root, variant, top1, gates, lr=0.003, **plan):
    place = root / variant / "0"
    place.mkdir(parents=True)
    spec = {"sweep": "drawn", "variant": variant, "number": 0, "values": {}, "epochs": 30}
    spec |= {"gates": gates, "bands": [], "goal": 0.91, "best_known": 0.8919, "nproc": 2, **plan}
    write_json(place / "spec.json", spec, durable=False)
    rows = [
        Measurement(epoch=i + 1, top1=v, lr=lr / (i + 1)).to_line() for i, v in enumerate(top1)
    ]
    (place / "measurements.jsonl").write_text("".join(rows))
    write_json(place / "outcome.json", {"state": "COMPLETE", "reason": "done"})


def opened(browser, root, file, width, fragment="", lang="en"):
    build_page(collect(root), file, lang=lang)
    size(browser, width, 900)
    browser.get("about:blank")
    browser.get(file.as_uri() + fragment)
    return drawn(browser)


def twenty(step):
    return [
        {"epoch": i + 1, "floor": 0.86 + i * step, "target": 0.87 + i * step} for i in range(20)
    ]


PLANS = {
    "twenty gates": ({"gates": twenty(0.001)}, [0.88] * 30),
    "equal thresholds": (
        {"gates": [{"epoch": e, "floor": 0.9, "target": 0.9} for e in (1, 2, 3)], "goal": 0.9}
        | {"best_known": 0.9},
        [0.9, 0.9],
    ),
    "a tiny range": ({"gates": [{"epoch": 30, "floor": 0.9101, "target": 0.9102}]}, [0.9101]),
    "at both ends": ({"gates": twenty(0)[:1] + twenty(0)[19:]}, [0.1, 0.88, 0.9999]),
}


@pytest.mark.parametrize("width", [1400, 380])
@pytest.mark.parametrize("name", PLANS)
def test_labels_do_not_overlap_and_stay_inside(browser, tmp_path, name, width):
    plan, top1 = PLANS[name]
    run(tmp_path / "runs" / "drawn", "baseline", top1, **plan)
    page = opened(browser, tmp_path / "runs" / "drawn", tmp_path / "c.html", width)
    boxes = js(page, BOXES)
    assert len(boxes) >= 3
    for a, b in itertools.combinations(boxes, 2):
        apart = a[3] <= b[1] + 1 or b[3] <= a[1] + 1 or a[4] <= b[2] + 1 or b[4] <= a[2] + 1
        assert apart, (a, b)
    assert all(left >= 0 and right <= frame + 1 for _, left, _, right, _, frame in boxes)
    fits(page, width)


@pytest.fixture
def page(browser, tmp_path):
    """A plan around 89 %, one run of which fell to chance."""
    root = tmp_path / "runs" / "drawn"
    gates = [{"epoch": 1, "floor": 0.88, "target": 0.885}]
    run(root, "baseline", [0.1292], gates, lr=1.0)
    run(root, "lr-0.02", [0.886, 0.89, 0.9], gates, lr=0.02)
    return opened(browser, root, tmp_path / "c.html", 1400)


def test_a_run_below_the_picture_stands_at_its_edge_with_its_value(page):
    words = [box[0] for box in js(page, BOXES)]
    assert "baseline/0 12.92 % ↓" in words
    js(page, "byId('range').value = 'full'; byId('range').dispatchEvent(new Event('change'))")
    assert "baseline/0 12.92 % ↓" not in [box[0] for box in js(page, BOXES)]


def test_rates_far_apart_are_drawn_on_a_logarithmic_axis(page):
    kind = "return DRAWN.get('chart-lr').getOption().yAxis[0].type"
    assert js(page, kind) == "log"
    click(page, "#lr-log")
    assert js(page, kind) == "value"
    click(page, '[data-pick="baseline/0"]')
    assert js(page, kind) == "value"  # a person's choice stays


def test_the_address_names_a_trial_and_a_view(browser, page, tmp_path):
    picked = "return [...state.picked]"
    page.find_element("link text", "lr-0.02/0").click()
    # The page follows its address in an event of its own, after the click.
    waiting(page).until(lambda b: js(b, picked) == ["lr-0.02/0"])
    assert page.current_url.endswith("#trial=lr-0.02%2F0")
    place = "return document.getElementById('h-verdicts').getBoundingClientRect().top"
    root = tmp_path / "runs" / "drawn"
    opened(browser, root, tmp_path / "c.html", 1400, "#pick=baseline/0&view=verdicts")
    assert js(browser, picked) == ["baseline/0"]
    height = js(browser, "return innerHeight")
    assert 0 <= js(browser, place) < height
    opened(browser, root, tmp_path / "c.html", 1400, "#trial=nosuch/7&view=nosuch")
    assert len(js(browser, picked)) == 2


def test_the_page_speaks_chinese_and_keeps_names(browser, page, tmp_path):
    browser.get_log("browser")  # of pages before this one
    opened(browser, tmp_path / "runs" / "drawn", tmp_path / "c.html", 1400, lang="zh")
    shown = js(browser, "return document.body.innerText")
    for words in ("各轮 top-1", "学习率", "哪些差异是真实的", "目标 91.00 %", "lr-0.02/0"):
        assert words in shown or words in str(js(browser, BOXES))
    assert not re.search(r"\b(Made|Metric|Next|Epoch|at)\b", shown + str(js(browser, BOXES)))
    assert js(browser, "return document.documentElement.lang") == "zh-CN"
    assert [e for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []
