"""Tell the user's own command what happens: `launch --notify CMD`.

The sentence goes to its standard input, the facts as JSON into PCAN_EVENT. The command runs
beside the launch, one at a time, and can neither hold it up nor fail it.
"""

import contextlib
import json
import os
import queue
import shlex
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pipeline.env import EVENT, SECRETS
from pipeline.errors import InputError, PcanError

#: After this a command that is still running is ended.
TIMEOUT_S = 30.0
#: How long the end of a launch waits for what is still to be told.
CLOSE_S = 35.0
#: More than this unsaid, and the oldest are not worth saying any more.
MOST_WAITING = 100

Notice = Callable[[str, str, Mapping[str, Any]], None]


def no_notice(event: str, sentence: str, facts: Mapping[str, Any]) -> None:
    """Tell nobody."""


def parse_command(text: str) -> list[str]:
    """Split CMD as a shell would, without running one.

    Raises:
        InputError: it is empty, its quotes do not match, or there is no such program.
    """
    try:
        argv = shlex.split(text)
    except ValueError as error:
        raise InputError(f"--notify {text!r} cannot be split into words: {error}.") from None
    if not argv:
        raise InputError('--notify is empty. Example: --notify "mail -s pcan me@example.org"')
    if shutil.which(argv[0]) is None:
        raise InputError(
            f'--notify names the program "{argv[0]}", which is not there or cannot be run.'
        )
    return argv


@contextlib.contextmanager
def notifying(
    argv: Sequence[str] | None, sweep: str, say: Callable[[str], None]
) -> Iterator[Notice]:
    """Give what tells the command of events, and let it finish at the end."""
    if argv is None:
        yield no_notice
        return
    notifier = Notifier(argv, sweep, say)
    try:
        yield notifier
    except PcanError as error:
        notifier("failure", str(error), {})
        raise
    finally:
        notifier.close()


class Notifier:
    """Runs the command for one event after the other, in a thread of its own.

    Args:
        say: prints one line; told once if the command fails.
    """

    def __init__(
        self,
        argv: Sequence[str],
        sweep: str,
        say: Callable[[str], None],
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._argv = argv
        self._sweep = sweep
        self._say = say
        self._timeout_s = timeout_s
        self._failed = False
        self._events: queue.Queue[tuple[str, str] | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def __call__(self, event: str, sentence: str, facts: Mapping[str, Any]) -> None:
        """Have an event told: "verdict", "failure" or "end"."""
        record = {"schema": 1, "event": event, "sweep": self._sweep, "sentence": sentence, **facts}
        try:
            self._events.put_nowait((sentence, json.dumps(record)))
        except queue.Full:
            self._told_once("is too slow; some events are not told")

    def close(self, seconds: float = CLOSE_S) -> None:
        """Give what is still to be told a moment."""
        try:
            self._events.put(None, timeout=1)
        except queue.Full:
            return
        self._thread.join(seconds)

    def _work(self) -> None:
        while (event := self._events.get()) is not None:
            self._run(*event)

    def _run(self, sentence: str, record: str) -> None:
        env = {key: value for key, value in os.environ.items() if key not in SECRETS}
        try:
            done = subprocess.run(
                self._argv,
                input=f"{sentence}\n",
                text=True,
                env={**env, EVENT: record},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=self._timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            self._told_once(f"took more than {self._timeout_s:g} s and was ended")
        except (OSError, ValueError) as error:
            self._told_once(f"could not be run: {error}")
        else:
            if done.returncode != 0:
                last = (done.stderr.strip().splitlines() or ["no word why"])[-1]
                self._told_once(f"ended with exit code {done.returncode}: {last[:200]}")

    def _told_once(self, problem: str) -> None:
        if not self._failed:
            self._failed = True
            self._say(f"--notify: {self._argv[0]} {problem}. The launch goes on.")
