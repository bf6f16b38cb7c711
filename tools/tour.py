"""Make docs/tour.md and its pictures from a finished demo, with the real commands.

    make demo && .venv/bin/python tools/tour.py [PROJECT]

Terminals become SVG by rich, the comparison page PNG by a headless Chromium. The same runs give
the same pictures, so a change of one is a change of a command or of the demo.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "tour"
COLUMNS = 104

#: File, command, what a reader sees there.
TERMINAL = (
    (
        "plan",
        "pcan sweep plan demo",
        "Before anything runs: the ladder, what each variant changes and costs, the gates, and "
        "what is open in the plan.",
    ),
    (
        "doctor",
        "pcan doctor demo",
        "What this machine lacks. On one that lacks something a launch says the same.",
    ),
    (
        "launch",
        "pcan sweep launch demo",
        "`pcan sweep launch demo` has run the plan. The same command goes on after any stop; when "
        "nothing is left it says why, where the sweep stands, and what to type next.",
    ),
    (
        "status",
        "pcan sweep status demo",
        "Every trial with its course. The baseline fell to chance and was pruned after one epoch; "
        "plan B took its place.",
    ),
    (
        "log",
        "pcan log runs/demo/lr-0.02/0",
        "Learning rate and top-1 by epoch, as the plan asks to watch them.",
    ),
    (
        "variant",
        "pcan sweep plan demo lr-0.02",
        "One variant whole, with the rate that its schedule really gives.",
    ),
)
#: File, width, what of the page, what a reader sees there.
PAGES = (
    (
        "page-top1",
        1100,
        "h-top1",
        "`pcan sweep compare demo` writes one file that needs no network: every run against the "
        "plan. One that falls out of the picture stands at its edge with its value.",
    ),
    ("page-ladder", 1100, "h-ladder", "How the ladder went, and why."),
    ("page-phone", 380, "h-top1", "The same on a phone; `#trial=` and `#view=` link to a part."),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", nargs="?", type=Path, default=ROOT)
    project = parser.parse_args().project.resolve()
    if not (project / "runs" / "demo").is_dir():
        sys.exit(f"{project} holds no runs/demo. Make it first: make demo")
    OUT.mkdir(exist_ok=True)
    for name, command, _ in TERMINAL:
        (OUT / f"{name}.svg").write_text(picture(command, output(command, project)))
    screenshots(project)
    (ROOT / "docs" / "tour.md").write_text(page())


def output(command: str, project: Path) -> str:
    """Return what a command prints on a terminal of `COLUMNS`, stderr first as it came."""
    words = command.split()[1:]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pipeline.cli.main", *words],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": str(COLUMNS), "FORCE_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout.replace(f"{project}/", "").rstrip()


def picture(command: str, text: str) -> str:
    """Return a terminal as SVG, without the font that rich would fetch from the network."""
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(Text(f"$ {command}\n", "bold"))
    console.print(Text.from_ansi(text), soft_wrap=False)
    svg = console.export_svg(title=command, unique_id=re.sub(r"\W", "", command))
    return re.sub(r"@font-face \{.*?\}\n?", "", svg, flags=re.S)


def screenshots(project: Path) -> None:
    """Write the parts of the comparison page that `PAGES` names."""
    output("pcan sweep compare demo", project)
    address = (project / "runs" / "demo" / "compare.html").as_uri()
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(word)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    browser = webdriver.Chrome(options=options, service=service)
    try:
        for name, width, heading, _ in PAGES:
            shape = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", shape)
            browser.get("about:blank")
            browser.get(address)
            WebDriverWait(browser, 60).until(drawn)
            section = browser.find_element("css selector", f"[aria-labelledby={heading}]")
            section.screenshot(str(OUT / f"{name}.png"))
    finally:
        browser.quit()


def drawn(browser: webdriver.Chrome) -> bool:
    return bool(browser.execute_script("return document.body.dataset.drawn === 'yes'"))


def page() -> str:
    """Return the tour in Markdown."""
    parts = [
        "# A tour of the demo",
        "Made by `tools/tour.py` from a finished `make demo`; every picture is a real command's.",
    ]
    for name, command, words in TERMINAL:
        parts += [f"## {command}", words, f"![{command}](tour/{name}.svg)"]
    parts.append("## The comparison page")
    for name, _, _, words in PAGES:
        parts += [words, f"![{name}](tour/{name}.png)"]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
