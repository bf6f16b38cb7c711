"""A file of any size as blocks of whole lines, in constant memory.

Scanning blocks with `bytes.find` and a regular expression is what makes a log of hundreds
of megabytes readable in seconds: a Python loop over its lines would spend its time on the
99 % of lines that are not needed.
"""

import codecs
import dataclasses
import gzip
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import InputError

#: Bytes read at a time; larger is not faster, and memory stays at a few blocks.
BLOCK = 1 << 20
#: A longer line is not a log line (a binary file, a dumped array); it is skipped.
LONGEST_LINE = 4 << 20

#: Bytes that show whether a file is text.
_SHOWN = 4096

_WIDE = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


@dataclasses.dataclass(frozen=True)
class Block:
    """Whole lines of a file.

    Args:
        data: the bytes, in an encoding that holds ASCII as ASCII.
        line: the number of its first line, from 1.
        complete: False for a last line without its newline, which may be cut or still
            being written.
    """

    data: bytes
    line: int
    complete: bool = True


def blocks(path: Path) -> Iterator[Block]:
    """Yield the file's lines in blocks; UTF-16 (a Windows redirection) becomes UTF-8.

    Raises:
        InputError: it cannot be read or is not text.
    """
    try:
        with _open(path) as stream:
            yield from _split(_chunks(stream, path))
    except EOFError as error:
        name = shlex.quote(str(path))
        whole = shlex.quote(str(path.with_suffix("")))
        raise InputError(
            f"{path} is cut short: the compressed file has no end. Copy it again, or read what is "
            f"left of it: zcat {name} > {whole}; pcan diagnose {whole}"
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {_why(error)}.") from error


def head(path: Path, size: int = 1 << 16) -> bytes:
    """Return the first bytes, decoded as `blocks` does, to detect the format."""
    start = b""
    for block in blocks(path):
        start += block.data
        if len(start) >= size:
            break
    return start[:size]


def _open(path: Path) -> BinaryIO | gzip.GzipFile:
    if path.suffix == ".gz":
        return gzip.open(path, "rb")
    return open(path, "rb")


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _chunks(stream: BinaryIO | gzip.GzipFile, path: Path) -> Iterator[bytes]:
    first = stream.read(BLOCK)
    encoding = _WIDE.get(first[:2])
    if encoding is None:
        if _is_binary(first[:_SHOWN]):
            raise InputError(f"{path} is a binary file, not a training log.")
        yield first.removeprefix(codecs.BOM_UTF8).replace(b"\0", b"")
        while chunk := stream.read(BLOCK):
            yield chunk.replace(b"\0", b"")
        return
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    yield decoder.decode(first[2:]).encode("utf-8", "replace")
    while chunk := stream.read(BLOCK):
        yield decoder.decode(chunk).encode("utf-8", "replace")


def _is_binary(start: bytes) -> bool:
    """Whether bytes are not text.

    A log has zeros where its file was emptied below a writing process or its machine crashed;
    they are left out. A binary file has other control characters among its zeros.
    """
    rest = start.replace(b"\0", b"")
    strange = sum(byte < 32 and byte not in b"\t\n\r\f\b\x1b" for byte in rest)
    return len(rest) < len(start) and 100 * strange > len(rest)


def _split(chunks: Iterator[bytes]) -> Iterator[Block]:
    rest, line, skipping = b"", 1, False
    for chunk in chunks:
        end = chunk.rfind(b"\n") + 1
        if not end:
            rest += b"" if skipping else chunk
            if len(rest) > LONGEST_LINE:
                rest, skipping = b"", True
            continue
        data = rest + chunk[:end]
        if skipping:
            # The tail of a line that was too long: an empty line in its place keeps count.
            data, skipping = data[data.find(b"\n") :], False
        yield Block(data, line)
        line += data.count(b"\n")
        rest = chunk[end:]
    if rest and not skipping:
        yield Block(rest, line, complete=False)
