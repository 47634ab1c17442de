"""Mounted file systems: of which type the one of a path is, and which types other machines serve."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tbot_core.system import filesystem

MOUNTS: Final = Path("/proc/mounts")
_NETWORK_NAMES: Final = (
    "9p afs beegfs ceph cifs fuse.ceph fuse.cephfs fuse.glusterfs fuse.s3fs "
    "fuse.sshfs gfs2 glusterfs lustre nfs nfs4 ocfs2 smb2 smb3 smbfs"
)
NETWORKS: Final = frozenset(_NETWORK_NAMES.split())
"""File systems served by, or shared with, other machines."""


def file_system(path: Path, *, mounts: Path = MOUNTS) -> str:
    """The type of the path's file system, as the kernel names it; "" if unknown."""
    try:
        rows = [line.split() for line in mounts.read_text().splitlines()]
    except OSError:
        return ""
    with filesystem.raising_access_errors("look at", path):
        whole = path.resolve()
    # A blank in a mount point is written as \040; of two mounts on one folder the last is visible.
    kinds = {Path(row[1].replace("\\040", " ")): row[2] for row in rows}
    return next((kinds[one] for one in (whole, *whole.parents) if one in kinds), "")
