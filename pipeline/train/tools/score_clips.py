"""`python -m pipeline.train.tools.score_clips`: read scores of clips, one question after another.

A line of JSON on stdin is a question, each answered by lines on stdout with its `id`:
`{"facts": run directory, "epoch", "views"}` by `{"facts": {...}}` (`refine_facts`);
`{"score": run directory, "weights", "mean", "epoch", "split", "clips", "flip", "out"}` by
`{"done", "of"}` while it works, then `{"top1"}` (`score_reader`). What cannot be done is answered
by `{"error": sentence}`; the process ends when stdin does, or its parent.
"""

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, TextIO

from pipeline.train.compat import prepare_mmaction, prepare_yapf, read_plain_pickles
from pipeline.train.rank_process import die_with_parent
from pipeline.train.tools.tool import ToolError

Answer = Callable[..., None]


class ScoreServer:
    """Answers questions; readers of run directories stay built."""

    def __init__(self) -> None:
        self._readers: Dict[str, Any] = {}

    def answer(self, question: Dict[str, Any], reply: Answer) -> None:
        """Answer one question by calls of `reply`."""
        if "facts" in question:
            from pipeline.train.refine_facts import facts

            found = facts(Path(question["facts"]), question["epoch"], question["views"])
            reply(facts=found)
            return
        folder = question["score"]
        if folder not in self._readers:
            from pipeline.train.score_reader import ScoreReader

            self._readers.clear()  # one model at a time fits into memory for certain
            self._readers[folder] = ScoreReader(Path(folder))
        top1 = self._readers[folder].read(question, lambda done, of: reply(done=done, of=of))
        reply(top1=top1)


def answers(stream: TextIO, number: Any) -> Answer:
    """Return what writes the answers to the question of that number."""

    def reply(**answer: Any) -> None:
        stream.write(json.dumps({"id": number, **answer}, default=repr) + "\n")
        stream.flush()

    return reply


def main() -> int:
    """Answer until stdin ends."""
    die_with_parent(os.getppid())
    stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is not an answer
    prepare_yapf()
    prepare_mmaction()
    read_plain_pickles()
    server = ScoreServer()
    for line in sys.stdin:
        question = json.loads(line)
        reply = answers(stdout, question.get("id"))
        try:
            server.answer(question, reply)
        except ToolError as error:
            reply(error=str(error))
        except Exception as error:  # of the user's model or data; the next question may go well
            traceback.print_exc()
            text = " ".join(str(error).split())[:300] or type(error).__name__
            reply(error=f"{type(error).__name__}: {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
