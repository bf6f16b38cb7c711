"""The common frame of the small programs that work with MMEngine or torch for a command.

`python -m pipeline.train.<tool>` reads one JSON object from stdin and writes one to stdout;
a mistake of the user's is `{"error": sentence}` with exit code 2. Whatever a config or a
library prints goes to stderr, so that stdout holds nothing but the answer.
"""

import json
import os
import sys
from typing import Any, Callable, Dict

from pipeline.shared.read_record import SourceRecorder


class ToolError(Exception):
    """A sentence for the user: what is wrong and what would be right."""


def serve(answer: Callable[[Dict[str, Any]], Dict[str, Any]], kept: bool = False) -> int:
    """Answer the question on stdin by `answer`, and return the exit code.

    Args:
        kept: the answer will be kept, so `sources` says what it was made from. `answer` may name
            files that a library has read by itself, as `read`.
    """
    recorder = SourceRecorder() if kept else None
    sys.stdout.flush()
    stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    code = 0
    try:
        result = answer(_question())
        if recorder is not None:
            for path in result.pop("read", ()):
                recorder.add(path)
            result["sources"] = recorder.record()
    except ToolError as error:
        result, code = {"error": str(error)}, 2
    with stdout:
        json.dump(result, stdout, default=repr)
        stdout.write("\n")
    return code


def _question() -> Dict[str, Any]:
    try:
        question = json.load(sys.stdin)
    except ValueError as error:
        raise ToolError(f"The question on stdin is not JSON: {error}.") from error
    if not isinstance(question, dict):
        raise ToolError("The question on stdin is not a JSON object.")
    return question
