"""Which file system a path is on, since SQLite's locks do not hold on one of a network."""

import os
import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = re.compile(
    r"^(nfs\d?|cifs|smb\d?|smbfs|afs|lustre|gpfs|beegfs|ceph|glusterfs|pvfs2|orangefs|panfs|"
    r"fuse\.(sshfs|glusterfs|ceph|s3fs|gcsfuse|rclone|juicefs|beegfs|nfs))"
)


def network_kind(path: Path, mounts: str | None = None) -> str | None:
    """Return the kind of network file system a path lies on, None for a local one.

    Args:
        path: need not exist.
        mounts: the kernel's list of mounts, for tests; None reads it.
    """
    if mounts is None:
        try:
            mounts = MOUNTS.read_text()
        except OSError:
            return None
    real = os.path.realpath(path)
    best, kind = "", ""
    for line in mounts.splitlines():
        place, found = _mount(line)
        inside = real == place or real.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(best):  # a later mount hides an earlier one
            best, kind = place, found
    return kind if _NETWORK.match(kind) else None


def _mount(line: str) -> tuple[str, str]:
    """Return the place and the type of a line of mountinfo; "" for one of another form."""
    before, sign, after = line.partition(" - ")
    fields = before.split(" ")
    if not sign or len(fields) < 5:
        return "\0", ""
    place = re.sub(r"\\(\d{3})", lambda m: chr(int(m.group(1), 8)), fields[4])
    return place, after.split(" ")[0]
