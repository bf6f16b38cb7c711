"""The comparison page: its size, and when a browser shows first text and first charts.

    .venv/bin/python benchmarks/page.py [--trials 50] [--epochs 50] [--repeat 5]

Prints medians in milliseconds from the start of navigation, of a page of drawn trials.
"""

import argparse
import json
import shutil
import statistics
import tempfile
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

from pipeline.report.compare.compare_record import collect
from pipeline.report.compare.page import build_page
from pipeline.shared.files import write_json
from pipeline.shared.measurement import Measurement

READY = "return document.body.dataset.drawn === 'yes'"
TIMES = """
const paint = performance.getEntriesByName("first-contentful-paint")[0];
return [paint ? paint.startTime : null, performance.now()];
"""


def draw(root: Path, trials: int, epochs: int) -> None:
    for number in range(trials):
        folder = root / "baseline" / str(number)
        folder.mkdir(parents=True)
        spec = {"sweep": root.name, "variant": "baseline", "number": number, "epochs": epochs}
        spec |= {"values": {"lr": 0.001 + number * 1e-5}, "goal": 0.91, "nproc": 2}
        write_json(folder / "spec.json", spec, durable=False)
        tops = [0.88 + 0.0001 * ((e * 7 + number) % 300) for e in range(1, epochs + 1)]
        rows = [Measurement(epoch=e, top1=t, lr=0.003) for e, t in enumerate(tops, 1)]
        (folder / "measurements.jsonl").write_text("".join(row.to_line() for row in rows))


def times(file: Path, repeat: int) -> list[tuple[float, float]]:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(word)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    browser = webdriver.Chrome(options=options, service=service)
    found = []
    try:
        for _ in range(repeat + 1):
            browser.get("about:blank")
            browser.get(file.as_uri())
            WebDriverWait(browser, 60, 0.01).until(lambda b: b.execute_script(READY))
            found.append(tuple(browser.execute_script(TIMES)))
    finally:
        browser.quit()
    return found[1:]  # the first one starts the browser's own parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("trials", 50), ("epochs", 50), ("repeat", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "runs" / "drawn"
        draw(root, given.trials, given.epochs)
        file = Path(folder) / "page.html"
        build_page(collect(root), file)
        first, charts = zip(*times(file, given.repeat), strict=True)
        record = {"bytes": file.stat().st_size, "first_paint_ms": statistics.median(first)}
        print(json.dumps({**record, "charts_ms": statistics.median(charts)}))


if __name__ == "__main__":
    main()
