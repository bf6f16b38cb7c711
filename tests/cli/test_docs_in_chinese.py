"""The Chinese pages stay in step with the English ones: same commands, same headings."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAIRS = [("README.md", "README.zh-CN.md"), ("docs/ten-minutes.md", "docs/zh-CN/ten-minutes.md")]


def blocks(text: str) -> list[str]:
    """Return the blocks of code: fenced ones, else those that are indented."""
    fenced = re.findall(r"^```\w*\n(.*?)^```$", text, re.M | re.S)
    indented = re.findall(
        r"(?<=\n\n)((?: {4}\S.*\n?)+)", re.sub(r"```.*?```", "", text, flags=re.S)
    )
    return [block.strip("\n") for block in (*fenced, *indented)]


def headings(text: str) -> list[str]:
    """Return the levels of the headings, and the number each begins with."""
    plain = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    return [f"{level} {number}" for level, number in re.findall(r"^(##?) (\d*)", plain, re.M)]


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_both_pages_have_the_same_commands_and_headings(english: str, chinese: str) -> None:
    here, there = ((ROOT / name).read_text(encoding="utf-8") for name in (english, chinese))
    assert blocks(there) == blocks(here), f"carry the change of {english} over to {chinese}"
    assert headings(there) == headings(here), f"{chinese} lacks a section, or has one too many"


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_each_page_links_to_the_other(english: str, chinese: str) -> None:
    for page, other in ((english, chinese), (chinese, english)):
        head = (ROOT / page).read_text(encoding="utf-8")[:400]
        links = re.findall(r"\]\(([^)]+)\)", head)
        places = {(ROOT / page).parent.joinpath(link).resolve() for link in links}
        assert ROOT / other in places, f"{page} does not lead to {other}"


@pytest.mark.parametrize("name", [chinese for _, chinese in PAIRS])
def test_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (ROOT / name).parent.joinpath(link).exists(), link
