"""The errors that are shown to the user, named by what has to be done about them.

    PcanError            the root; its text is printed as it stands, without a traceback
      InputError         fix the command line or the file that it names    exit 2
        SweepFileError   fix the sweep file                                 exit 2
      JobFailed          read the job's log; the trial is FAIL              exit 3
      NoResult           nothing to show or to export yet                   exit 3
      StorageError       the study storage cannot be used                   exit 4
      NotReady           fix the machine: GPU, disk, data, checkpoint       exit 5
        StageWaits       train the earlier stage first                      exit 5
      TrackingError      go on, send to W&B later                           exit 1, never fatal

A bug stays a plain exception with its traceback (exit 1).
"""


class PcanError(Exception):
    """A sentence for the user: what is wrong, what would be right, the next command."""

    exit_code = 1


class InputError(PcanError):
    """The command line, or a file that it names, has to be changed."""

    exit_code = 2


class SweepFileError(InputError):
    """The sweep file has to be changed; the text starts with file:line."""


class JobFailed(PcanError):
    """A trial ended as FAIL; the text names the cause and the log."""

    exit_code = 3


class NoResult(PcanError):
    """There is nothing eligible to show or to export yet."""

    exit_code = 3


class StorageError(PcanError):
    """The study storage cannot be opened, read or written."""

    exit_code = 4


class NotReady(PcanError):
    """The machine lacks something that the job needs: a GPU, disk space, data, a checkpoint."""

    exit_code = 5


class StageWaits(NotReady):
    """A stage whose earlier one has no complete trial; the text has the command that trains it."""


class TrackingError(PcanError):
    """Something was not sent to W&B; training goes on and `pcan sweep sync` sends it later."""


def printable(text: object) -> str:
    """Return text without control characters, which must not reach the terminal."""
    return "".join(c for c in str(text) if c == "\n" or c.isprintable())
