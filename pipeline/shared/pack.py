"""One prepared clip in one file: stills of the region where the person is.

Both sides use this module, so it keeps to Python 3.8, numpy and the standard library.

    8 bytes   magic with the format version
    4 + 4     length and CRC-32 of what follows up to the payload
    JSON      source size, region, sampler, codec, fingerprint of the source
    table     uint32 (frame number, bytes, CRC-32) a stored frame, ascending
    payload   the stills one after the other

Every byte is covered: the head by its own CRC-32, the file's length by the table, each still by
its CRC-32 when it is read.
"""

import hashlib
import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any, Dict, Iterable, Sequence, Tuple, Union

import numpy as np

from pipeline.shared.files import replacing

MAGIC = b"PCANPK01"
_HEAD = struct.Struct("<8sII")
SUFFIX = ".pack"


class PackError(Exception):
    """A pack is damaged, of another version, or of another source."""


def source_fingerprint(clip: Dict[str, Any]) -> str:
    """Return what changes when a clip's joints, size or length change (not its label)."""
    digest = hashlib.blake2b(digest_size=8)
    joints = np.ascontiguousarray(clip["keypoint"])
    size = tuple(int(side) for side in clip["img_shape"])
    digest.update(repr((joints.shape, joints.dtype.str, size, int(clip["total_frames"]))).encode())
    digest.update(joints.tobytes())
    return digest.hexdigest()


def write_pack(path: Path, meta: Dict[str, Any], stills: Iterable[Tuple[int, bytes]]) -> int:
    """Write a pack under a temporary name, flush it to the disk and rename it.

    Args:
        meta: what the head holds, plain JSON.
        stills: (frame number, encoded picture), ascending; may be a generator.

    Returns:
        The file's size in bytes.
    """
    rows, payload = [], []
    for number, still in stills:
        rows.append((number, len(still), zlib.crc32(still)))
        payload.append(still)
    head = json.dumps({**meta, "stills": len(rows)}, sort_keys=True).encode()
    head += b" " * (-len(head) % 4)
    head += np.array(rows, "<u4").reshape(-1, 3).tobytes()
    return replace_file(path, [_HEAD.pack(MAGIC, len(head), zlib.crc32(head)), head, *payload])


def replace_file(path: Path, chunks: Iterable[bytes]) -> int:
    """Write a file whole, or not at all, that others may read.

    Returns:
        The file's size in bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as stream:
        stream.writelines(chunks)
        os.fchmod(stream.fileno(), 0o644)
        return stream.tell()


class Pack:
    """An opened pack; the file is closed by `close` or the `with` statement.

    Raises:
        FileNotFoundError: there is no such pack.
        PackError: it is damaged or of another version.
    """

    def __init__(self, path: Union[str, Path]) -> None:
        self.path = str(path)
        self._file = os.open(self.path, os.O_RDONLY)
        try:
            self._read_head()
        except BaseException:
            self.close()
            raise

    def _read_head(self) -> None:
        start = os.pread(self._file, _HEAD.size, 0)
        if len(start) < _HEAD.size:
            raise PackError(f"{self.path} is cut short.")
        magic, length, checksum = _HEAD.unpack(start)
        if magic != MAGIC:
            raise PackError(f"{self.path} is not a pack of this version ({magic!r}).")
        head = os.pread(self._file, length, _HEAD.size)
        if len(head) < length or zlib.crc32(head) != checksum:
            raise PackError(f"{self.path} has a damaged head.")
        self.checksum: int = checksum
        # The table is binary; JSON ends where its object does.
        text = head.decode("latin-1")
        self.meta, end = json.JSONDecoder().raw_decode(text)
        table = np.frombuffer(head, "<u4", offset=end + (-end % 4)).reshape(-1, 3)
        self.frames = table[:, 0].astype(np.int64)  # ascending
        self._crc = table[:, 2]
        self._offsets = np.zeros(len(table) + 1, np.int64)
        np.cumsum(table[:, 1], out=self._offsets[1:])
        self._offsets += _HEAD.size + length
        if len(table) != self.meta["stills"] or os.fstat(self._file).st_size != self._offsets[-1]:
            raise PackError(f"{self.path} is cut short or has a tail.")

    def __enter__(self) -> "Pack":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    @property
    def size(self) -> Tuple[int, int]:
        """Height and width of the source video."""
        height, width = self.meta["size"]
        return height, width

    @property
    def box(self) -> Tuple[int, int, int, int]:
        """The stored region (left, top, right, bottom) in pixels of the source."""
        left, top, right, bottom = self.meta["box"]
        return left, top, right, bottom

    def has(self, frames: Sequence[int]) -> bool:
        """Return whether every one of these frames is stored."""
        return bool(np.isin(frames, self.frames).all())

    def check(self) -> None:
        """Read every still.

        Raises:
            PackError: the bytes of one are damaged.
        """
        for frame in self.frames:
            self.still(int(frame))

    def still(self, frame: int) -> bytes:
        """Return one frame's encoded picture.

        Raises:
            PackError: the frame is not stored, or its bytes are damaged.
        """
        row = int(np.searchsorted(self.frames, frame))
        if row == len(self.frames) or self.frames[row] != frame:
            raise PackError(f"{self.path} has no frame {frame}.")
        start, end = int(self._offsets[row]), int(self._offsets[row + 1])
        still = os.pread(self._file, end - start, start)
        if zlib.crc32(still) != self._crc[row]:
            raise PackError(f"{self.path}: frame {frame} is damaged.")
        return still
