"""Report the end of a command that is not a launch, such as `pcan sweep refine`."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

from pipeline.cli.common.options import Opened, echo_err
from pipeline.errors import PcanError


@contextlib.contextmanager
def notify_end(opened: Opened, targets: Sequence[str]) -> Iterator[Callable[[str], None]]:
    """Yield what takes the sentence for the event "end"; an error here is a "failure".

    Raises:
        InputError: a target cannot be used; the block is not entered.
    """
    from pipeline.launch.notify import make_notifier
    from pipeline.launch.reporters import LineReporter

    console, sweep = LineReporter(echo_err), opened.sweep
    notifiers = [make_notifier(one, sweep.name, console, sweep.notify) for one in targets]

    def end(sentence: str) -> None:
        for notifier in notifiers:
            notifier.send("end", sentence, {"exit_code": 0, "failed": []})

    try:
        yield end
    except PcanError as error:
        for notifier in notifiers:
            notifier.on_launch_error(error)
        raise
    finally:
        for notifier in notifiers:
            notifier.close()
