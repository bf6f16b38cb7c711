"""Notifications: `--notify`, by a command of the user's or by a service's URL.

Events are sent by a thread of their own, one at a time: a slow command or a dead service neither
delays nor fails a launch.
"""

import abc
import contextlib
import json
import logging
import os
import queue
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Self

from pipeline.env import EVENT, SECRETS
from pipeline.errors import InputError, PcanError
from pipeline.job.exit_cause import Outcome
from pipeline.launch.messages import epoch_text
from pipeline.launch.reporters import LaunchResult, ReportedTrial, Reporter, RunningTrial
from pipeline.plan.sweep import Notify
from pipeline.plan.verdict import Verdict, VerdictKind, percent
from pipeline.shared.measurement import Measurement
from pipeline.shared.states import State

#: A command that is still running after this is ended; a service that has not answered is left.
TIMEOUT_S = 30.0
#: How long the end of a launch waits for events that were not sent yet.
CLOSE_S = 35.0
#: Events beyond this number are dropped while an earlier one is being sent.
MAX_QUEUED = 100
#: What is sent where the sweep file does not say.
USUAL = Notify()
#: What a service's URL begins with.
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


class NotifyReporter(Reporter):
    """Sends verdicts, failures, new bests and the end of a launch, as the sweep file wants them.

    Args:
        shown: what a message about a failed delivery calls the receiver.
        sweep: the sweep's name.
        console: prints one line if it fails.
        wants: which events are sent.
        end: whether the end of the launch is an event; not for a job of a launch on a cluster.
    """

    def __init__(
        self,
        shown: str,
        sweep: str,
        console: Reporter,
        wants: Notify = USUAL,
        end: bool = True,
    ) -> None:
        self._shown = shown
        self._sweep = sweep
        self._console = console
        self._wants = wants
        self._best: float | None = None
        self._end = end
        self._failed = False
        self._events: queue.Queue[tuple[str, str] | None] = queue.Queue(MAX_QUEUED)
        self._thread = threading.Thread(target=self._work, daemon=True)

    def known_best(self, best: float | None) -> Self:
        """Return this reporter after noting the best top-1 that the sweep has had."""
        self._best = best
        return self

    def on_trial_result(
        self, trial: RunningTrial, measurement: Measurement, verdict: Verdict
    ) -> None:
        if verdict.kind is not VerdictKind.GO:
            text = epoch_text(trial.name, trial.epochs, measurement, verdict)
            self.send("verdict", text, {"trial": trial.name, **verdict.record()})
        if measurement.epoch > 0 and measurement.finite:
            self._note_best(trial, measurement)

    def on_trial_complete(self, trial: ReportedTrial, outcome: Outcome, details: str = "") -> None:
        del details
        if outcome.state == State.FAIL:
            text = f"{trial.name} failed ({outcome.cause}): {outcome.reason}"
            facts = {"trial": trial.name, "cause": outcome.cause, "reason": outcome.reason}
            self.send("failure", text, facts)

    def on_launch_end(self, result: LaunchResult) -> None:
        if not self._end:
            return
        why = "interrupted; the same launch goes on" if result.interrupted else result.why
        text = f"{self._sweep}: {why or 'stopped'} (exit code {result.exit_code})."
        self.send("end", text, {"exit_code": result.exit_code, "failed": list(result.failed)})

    def on_launch_error(self, error: PcanError) -> None:
        self.send("failure", str(error), {})

    def close(self) -> None:
        """Give events that were not sent yet a moment."""
        if not self._thread.is_alive():
            return
        with contextlib.suppress(queue.Full):
            self._events.put(None, timeout=1)
            self._thread.join(CLOSE_S)

    def send(self, event: str, sentence: str, facts: Mapping[str, Any]) -> None:
        """Queue an event ("verdict", "failure", "better" or "end") if it is wanted."""
        if event not in self._wants.on:
            return
        if not self._thread.is_alive():
            self._thread.start()
        record = {"schema": 1, "event": event, "sweep": self._sweep, "sentence": sentence, **facts}
        try:
            self._events.put_nowait((sentence, json.dumps(record)))
        except queue.Full:
            self._report_once("is too slow; some events are not sent")

    @abc.abstractmethod
    def _deliver(self, sentence: str, record: str) -> None:
        """Send one event; what goes wrong is reported by `_report_once`."""

    def _note_best(self, trial: RunningTrial, measurement: Measurement) -> None:
        before, top1 = self._best, measurement.top1
        if before is not None and top1 <= before + self._wants.better_by:
            return
        self._best = top1
        if before is None:
            return  # the first value of a sweep is not news
        text = (
            f"{trial.name} epoch {measurement.epoch}: top-1 {percent(top1)} is the best so far, "
            f"{100 * (top1 - before):.2f} points above {percent(before)}"
        )
        facts = {"trial": trial.name, "epoch": measurement.epoch, "top1": top1, "before": before}
        self.send("better", text, facts)

    def _work(self) -> None:
        while (event := self._events.get()) is not None:
            self._deliver(*event)

    def _report_once(self, problem: str) -> None:
        if not self._failed:
            self._failed = True
            self._console.on_message(f"--notify: {self._shown} {problem}. The launch goes on.")


class CommandReporter(NotifyReporter):
    """Runs the user's own command for each event.

    A sentence goes to its standard input, the facts as JSON into PCAN_EVENT.
    """

    def __init__(
        self,
        argv: Sequence[str],
        sweep: str,
        console: Reporter,
        timeout_s: float = TIMEOUT_S,
        **given: Any,
    ) -> None:
        super().__init__(argv[0], sweep, console, **given)
        self._argv = argv
        self._timeout_s = timeout_s

    def _deliver(self, sentence: str, record: str) -> None:
        env = {key: value for key, value in os.environ.items() if key not in SECRETS}
        try:
            done = subprocess.run(
                self._argv,
                input=f"{sentence}\n",
                encoding="utf-8",
                errors="replace",
                env={**env, EVENT: record},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=self._timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            self._report_once(f"took more than {self._timeout_s:g} s and was ended")
        except (OSError, ValueError) as error:
            self._report_once(f"could not be run: {error}")
        else:
            if done.returncode != 0:
                last = (done.stderr.strip().splitlines() or ["no error message"])[-1]
                self._report_once(f"ended with exit code {done.returncode}: {last[:200]}")


class ServiceReporter(NotifyReporter):
    """Sends each event to a service by its URL, as the package apprise names services."""

    def __init__(self, service: Any, scheme: str, sweep: str, console: Reporter, **given: Any):
        super().__init__(f"the service {scheme}://", sweep, console, **given)
        self._service = service

    def _deliver(self, sentence: str, record: str) -> None:
        event = json.loads(record)["event"]
        try:
            sent = self._service.notify(body=sentence, title=f"pcan {self._sweep}: {event}")
        except Exception as error:  # a plugin of apprise may raise anything
            self._report_once(f"could not be reached: {type(error).__name__}")
            return
        if not sent:
            self._report_once("did not take a message; is it reachable, is the key right?")


def make_notifier(
    target: str,
    sweep: str,
    console: Reporter,
    wants: Notify,
    end: bool = True,
) -> NotifyReporter:
    """Return what sends events to a command or to a service's URL.

    Raises:
        InputError: the command cannot be run, the URL is not a known one, or the package for
            URLs is missing.
    """
    given: dict[str, Any] = {"wants": wants, "end": end}
    scheme = URL.match(target)
    if scheme is None:
        return CommandReporter(parse_command(target), sweep, console, **given)
    name = scheme.group().removesuffix("://")
    return ServiceReporter(_service(target, name), name, sweep, console, **given)


def hidden_target(text: str) -> str:
    """Return a `--notify` value without what a service's URL keeps secret."""
    scheme = URL.match(text)
    return f"{scheme.group()}***" if scheme is not None else text


def _service(url: str, scheme: str) -> Any:
    try:
        import apprise
    except ImportError:
        raise InputError(
            f"--notify {scheme}://... needs a package that is not installed. Install it: "
            "pip install 'pcan[notify]'"
        ) from None
    log = logging.getLogger("apprise")  # its messages would show the URL with its key
    log.addHandler(logging.NullHandler())
    log.propagate = False
    service = apprise.Apprise()
    limits = f"{'&' if '?' in url else '?'}cto={TIMEOUT_S / 3:g}&rto={TIMEOUT_S / 3:g}"
    if not service.add(url + limits):
        raise InputError(
            f"--notify {scheme}://... is not a known service, or a part of its URL is "
            "missing. Examples: ntfy://TOPIC, mailto://USER:PASSWORD@HOST, tgram://TOKEN/CHAT"
        )
    return service


def parse_command(text: str) -> list[str]:
    """Split the command of `--notify` as a shell would, without running one.

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
