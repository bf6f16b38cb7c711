"""Make stdin, stdout and stderr fit for use, whatever the caller left of them."""

import codecs
import contextlib
import io
import os
import sys
from typing import TextIO

#: What an encoding lacks, in letters that every encoding has. Others are shown by their number.
PLAIN = {
    **dict(zip("▁▂▃▄▅▆▇█", "_.,-~=+#", strict=True)),
    **{"±": "+/-", "–": "-", "—": "-", "…": "...", "→": "->", "×": "x", "≥": ">=", "≤": "<="},
    **{"└": "`", "├": "|", "─": "-", "│": "|", "┬": "-", "•": "*", "°": " deg", "²": "2"},
    **{"“": '"', "”": '"', "‘": "'", "’": "'", "\u00a0": " "},
}
HANDLER = "pcan_plain"


def prepare_streams() -> None:
    """Open what is closed, and let no letter be refused by an encoding.

    A closed descriptor would be given to the next file that is opened, such as the storage, and
    then be written to as if it were the terminal.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            _open_null(number, name, mode)
    codecs.register_error(HANDLER, _plain)
    sys.stdout, sys.stderr = _tolerant(sys.stdout), _tolerant(sys.stderr)


def _tolerant(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    if codecs.lookup(stream.encoding).name != "ascii":
        stream.reconfigure(errors=HANDLER)
        return stream
    lines = stream.line_buffering
    return _AsciiStream(stream.detach(), "latin-1", line_buffering=lines)


class _AsciiStream(io.TextIOWrapper):
    """ASCII under the name of another encoding: Click writes UTF-8 to one that says "ascii"."""

    def write(self, text: str) -> int:
        super().write(text.encode("ascii", HANDLER).decode("ascii"))
        return len(text)


def discard_output() -> None:
    """Send stdout nowhere: its reader is gone, and flushing it at exit would complain."""
    null = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(null, sys.stdout.fileno())
    os.close(null)


def complain(text: str) -> None:
    """Print to stderr if it is still there."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def _open_null(number: int, name: str, mode: str) -> None:
    opened = os.open(os.devnull, os.O_RDWR)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)
    os.set_inheritable(number, True)
    setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(PLAIN.get(one) or _number(one) for one in letters), error.end


def _number(letter: str) -> str:
    return letter.encode("ascii", "backslashreplace").decode()
