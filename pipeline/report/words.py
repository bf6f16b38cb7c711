"""Texts of the page and of reports in a language, from one table.

The table, `words.json`, has for each language the texts by their English form, and patterns for
sentences that hold numbers and names. What it lacks stays English.
"""

import functools
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

#: As a page names them in `lang`.
LANGUAGES = {"en": "en", "zh": "zh-CN"}


@functools.lru_cache
def words(lang: str) -> Mapping[str, Any]:
    """Return the table of a language: `texts` by English text, `patterns` with their forms."""
    if lang == "en":
        return {"texts": {}, "patterns": []}
    folder = resources.files("pipeline.report")
    table: Mapping[str, Any] = json.loads(folder.joinpath("words.json").read_text("utf-8"))[lang]
    return table


def translate(english: str, lang: str) -> str:
    """Return a text of ours in a language.

    A sentence that the table lacks as a whole is looked up in parts: between "; ", and a remark in
    parentheses at its end.
    """
    if lang == "en":
        return english
    table = words(lang)
    if english in table["texts"]:
        return str(table["texts"][english])
    for pattern, form in table["patterns"]:
        if re.fullmatch(pattern, english):
            return re.sub(pattern, re.sub(r"\$(\d)", r"\\g<\1>", form), english)
    parts = english.split("; ")
    if len(parts) > 1:
        return "；".join(translate(part, lang) for part in parts)
    remark = re.fullmatch(r"(.+) \(([^()]+)\)", english)
    return f"{translate(remark[1], lang)}（{translate(remark[2], lang)}）" if remark else english
