"""The comparison page in headless Chromium, opened from disk as a user would."""

import json
import os
import shutil
import threading

import pytest

from browser import NEEDED, click, drawn, fits, js, size, waiting
from pipeline.report.compare import serve
from pipeline.report.compare.compare_record import StoredFacts, collect
from pipeline.report.compare.page import SCRIPTS, build_page
from pipeline.shared.files import write_json
from pipeline.shared.measurement import Measurement

pytestmark = NEEDED
GATES = [
    {"epoch": 1, "floor": 0.88, "target": 0.885},
    {"epoch": 5, "target": 0.895, "improve_on_epoch": 1},
]
BANDS = [
    {"epoch": 1, "lr": 0.003, "top1": [0.885, 0.895]},
    {"epoch": 10, "lr": 0.002, "top1": [0.895, 0.905]},
]
LR, WEIGHT = "optim_wrapper.optimizer.lr", "model.cls_head.loss_weights.1"
HOSTILE = "<script>document.title='owned'</script>"


def trial(root, variant, number, top1, state="COMPLETE", values=None, folder=None):
    place = root / (folder or variant) / str(number)
    place.mkdir(parents=True)
    lr = (values or {}).get(LR, 0.003)
    spec = {"sweep": "demo", "variant": variant, "number": number, "values": values or {}}
    spec |= {"epochs": 10, "gates": GATES, "bands": BANDS, "goal": 0.91, "best_known": 0.8919}
    spec |= {"overrides": {LR: lr}, "lr_course": [lr] * 10, "nproc": 2}
    write_json(place / "spec.json", spec, durable=False)
    rows = [
        Measurement(epoch=i + 1, top1=v, lr=lr, rgb_top1=v - 0.01, pose_top1=v - 0.08).to_line()
        for i, v in enumerate(top1)
    ]
    (place / "measurements.jsonl").write_text("".join(rows))
    prune = {"epoch": len(top1), "top1": top1[-1], "verdict": "prune", "rule": "epoch 1 floor"}
    if state == "PRUNED":
        record = {**prune, "threshold": 0.88, "reason": "top-1 is under the floor 88.00 %"}
        (place / "verdicts.jsonl").write_text(json.dumps(record) + "\n")
    if state:
        write_json(place / "outcome.json", {"state": state, "reason": "under the floor"})
    return place


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("page") / "runs" / "demo"
    rise = [0.886 + 0.002 * i for i in range(10)]
    trial(root, "baseline", 0, [0.8669], "PRUNED")
    trial(root, "lr-0.001", 0, rise)
    for i in range(1, 9):
        values = {LR: 0.0005 * i, WEIGHT: 1 + i / 10}
        trial(root, "baseline", i, [v + 0.0005 * i for v in rise], values=values)
    trial(root, HOSTILE, 0, rise[:3], None, folder="hostile")
    return root


@pytest.fixture
def page(browser, runs, tmp_path):
    """The page as just opened, on a desktop; logs begin here."""
    file = tmp_path / "compare.html"
    build_page(collect(runs), file)
    size(browser, 1280, 1000)
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(file.as_uri())
    return drawn(browser)


def column(browser, index):
    return js(
        browser,
        "return [...document.querySelectorAll('#table tbody tr')]"
        ".map(r => r.children[arguments[0]].textContent)",
        index,
    )


def series(browser, chart="chart-top1"):
    code = "return DRAWN.get(arguments[0]).getOption().series.map(s => s.name)"
    return js(browser, code, chart)


def picked(browser):
    return js(browser, "return [...state.picked]")


def test_loads_silently_and_asks_no_other_place(page):
    assert page.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"].endswith("WillBeSent")]
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert any(url.endswith("compare.html") for url in asked)


def test_curves_band_gates_and_the_end_of_a_pruned_run_are_drawn(page):
    names = series(page)
    assert {"baseline/0", "lr-0.001/0", "~band", "~gates", "~ends", "~levels", "~labels"} <= set(
        names
    )
    words = js(page, "return document.getElementById('chart-top1').textContent")
    for said in ("floor 88.0 %", "target 88.5 %", "goal 91.00 %", "best known 89.19 %"):
        assert said in words
    ends = "return DRAWN.get('chart-top1').getOption().series.find(s => s.name === '~ends').data"
    assert [1, 0.8669] in [mark["value"][:2] for mark in js(page, ends)]
    assert "baseline/0 pruned" in page.find_element("id", "chart-top1").get_attribute("aria-label")
    click(page, "#show-plan")
    assert "~band" not in series(page)


def test_the_learning_rate_shows_what_was_true_and_what_was_logged(page):
    assert {"~true baseline", "baseline/0", "~plan's table"} <= set(series(page, "chart-lr"))


def test_the_branches_have_their_own_charts(page):
    assert "lr-0.001/0" in series(page, "chart-rgb")
    assert "lr-0.001/0" in series(page, "chart-pose")


def test_picking_runs_changes_every_view(page):
    click(page, "#pick-none")
    assert "baseline/3" not in series(page)
    for name in ("baseline/3", "lr-0.001/0"):
        click(page, f'[data-pick="{name}"]')
    assert "baseline/3" in series(page)
    assert set(picked(page)) == {"baseline/3", "lr-0.001/0"}
    diff = page.find_element("id", "diff").text
    assert LR in diff
    assert WEIGHT in diff
    assert "89.15 %" in js(page, "return document.getElementById('numbers').textContent")
    click(page, "#picks button")
    assert len(picked(page)) == 1


def test_the_picked_runs_are_held_against_each_other(page):
    click(page, "#pick-none")
    assert "Pick two runs or more" in page.find_element("id", "real").text
    for name in ("baseline/0", "lr-0.001/0"):
        click(page, f'[data-pick="{name}"]')
    shown_text = page.find_element("id", "real").text
    assert "lr-0.001/0 against baseline/0" in shown_text and "not tested" in shown_text
    assert "lr-0.001/0 reads 3.71 points above baseline/0" in shown_text
    assert js(page, "return document.getElementById('importance-section').hidden")


def test_what_mattered_is_shown_or_said_to_be_unknown(browser, runs, tmp_path):
    shown_text = {"variant": "baseline", "trials": 12, "sentence": "baseline: share of each"}
    few = {"variant": "other", "trials": 2, "values": None, "sentence": "other: unknown so far"}
    found = [{**shown_text, "values": {LR: 0.75, WEIGHT: 0.25}}, few]
    file = tmp_path / "importances.html"
    build_page(collect(runs, stored=StoredFacts(importances=found)), file)
    browser.get(file.as_uri())
    drawn(browser)
    shown = browser.find_element("id", "importance").text
    assert "baseline: share of each" in shown and "other: unknown so far" in shown
    assert "lr 75 %" in " ".join(shown.split())


def test_sorting_by_a_column_and_back(page):
    best = column(page, 4)
    assert best[0] == max(best)
    click(page, '[data-sort="best"]')
    assert column(page, 4)[0] == "86.69 %"
    head = page.find_element("css selector", 'th[aria-sort="ascending"]')
    assert "Best top-1" in head.text
    click(page, '[data-sort="trial"]')
    assert column(page, 1)[:3] == sorted(column(page, 1))[:3]


def test_searching_and_choosing_columns(page):
    page.find_element("id", "search").send_keys("pruned floor")
    assert column(page, 1) == ["baseline/0"]
    assert "1 of 11" in page.find_element("id", "count").text
    click(page, ".menu summary")
    click(page, '[data-column="loss"]')
    assert "Loss" in page.find_element("css selector", "#table thead").text


def test_parallel_coordinates_show_what_was_searched(page):
    names = "return DRAWN.get('chart-parallel').getOption().parallelAxis.map(a => a.name)"
    assert js(page, names) == ["lr", "loss_weights.1", "best top-1"]


def test_a_hostile_name_is_inert(page):
    assert page.title == "demo · comparison of trials"
    assert any(HOSTILE in name for name in column(page, 1))
    assert js(page, "return [...document.scripts].some(s => s.text.includes('owned'))") is True
    assert js(page, "return document.scripts.length") == 4 + len(SCRIPTS)
    move = "DRAWN.get('chart-top1').dispatchAction({type: 'showTip', x: 200, y: 150})"
    js(page, move)
    assert page.title == "demo · comparison of trials"
    assert page.get_log("browser") == []


def test_dark_and_light(page):
    def paper():
        return js(page, "return getComputedStyle(document.body).backgroundColor")

    bright = paper()
    for feature in ("dark", "light"):
        media = {"features": [{"name": "prefers-color-scheme", "value": feature}]}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        waiting(page).until(lambda _, f=feature: (paper() == bright) == (f == "light"))
    click(page, "#theme")
    click(page, "#theme")
    assert paper() != bright
    js(page, "localStorage.clear()")


def test_works_from_the_keyboard(page):
    js(page, "document.querySelector('[data-sort=\"epochs\"]').focus()")
    page.switch_to.active_element.send_keys("\ue007")
    assert js(page, "return document.activeElement.dataset.sort") == "epochs"
    js(page, "document.querySelector('[data-pick=\"baseline/7\"]').focus()")
    before = set(picked(page))
    page.switch_to.active_element.send_keys(" ")
    assert set(picked(page)) ^ before == {"baseline/7"}
    assert "#pick=" in page.current_url
    assert js(page, "return document.activeElement.dataset.pick") == "baseline/7"


def test_everything_has_a_name_for_a_screen_reader(page):
    code = """return [...document.querySelectorAll('button, input, select, [role=img]')]
      .filter(e => !(e.labels && e.labels.length) && !e.getAttribute('aria-label')
                   && !e.textContent.trim()).map(e => e.outerHTML.slice(0, 90))"""
    assert js(page, code) == []
    levels = "return [...document.querySelectorAll('h1, h2, h3')].map(h => h.tagName)"
    assert js(page, levels)[0] == "H1"
    assert js(page, "return document.documentElement.lang") == "en"


def test_text_keeps_its_contrast_in_both_themes(page):
    for theme in ("light", "dark"):
        js(page, "document.documentElement.dataset.theme = arguments[0]", theme)
        colours = js(
            page,
            "const s = getComputedStyle(document.documentElement);"
            "return Object.fromEntries(arguments[0].map(n => [n, s.getPropertyValue(n).trim()]))",
            ["--card", "--paper", "--ink", "--soft", "--accent", "--good", "--watch", "--bad"],
        )
        for name in ("--ink", "--soft", "--accent", "--good", "--watch", "--bad"):
            for ground in ("--card", "--paper"):
                assert contrast(colours[name], colours[ground]) >= 4.5, (theme, name, ground)


def contrast(one, other):
    """WCAG's ratio of two #rrggbb colours."""

    def light(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_sticks_out_at_desktop_and_phone_width(page, width):
    size(page, width, 900)
    page.refresh()
    drawn(page)
    fits(page, width)
    if folder := os.environ.get("PCAN_SCREENSHOTS"):
        height = js(page, "return document.documentElement.scrollHeight")
        size(page, width, height)
        page.save_screenshot(f"{folder}/compare-{width}.png")


def test_prints_in_light_colours(page):
    js(page, "document.documentElement.dataset.theme = 'dark'")
    js(page, "window.dispatchEvent(new Event('beforeprint'))")
    assert js(page, "return document.documentElement.dataset.theme") == "light"
    picks = page.find_element("css selector", "#picks svg line").get_attribute("stroke")
    assert picks == js(page, "return look(state.data, [...picked()][0]).color")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    size(page, 800, 1000)
    fits(page, 800)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    pdf = page.execute_cdp_cmd("Page.printToPDF", {})
    assert len(pdf["data"]) > 20_000


def test_served_page_follows_the_sweep(browser, runs, tmp_path, monkeypatch):
    monkeypatch.setattr(serve, "FRESH_S", 0.0)
    root = tmp_path / "runs" / "demo"
    shutil.copytree(runs, root)
    server = serve.make_server(lambda: collect(root))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        browser.get(serve.address(server))
        drawn(browser)
        trial(root, "pose-1.5", 0, [0.8890])
        waiting(browser).until(lambda b: "pose-1.5/0" in column(b, 1))
        assert "pose-1.5/0" in series(browser)
        assert [e for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []
    finally:
        browser.get("about:blank")
        server.shutdown()
        server.server_close()
        thread.join()
