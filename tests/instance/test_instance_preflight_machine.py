"""What `tbot check` says of the machine that an instance lies on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.instance import Instance
from tbot_core.instance.preflight import local_disk_findings

if TYPE_CHECKING:
    from pathlib import Path


def test_f85_an_instance_on_a_network_share_is_refused(tmp_path: Path) -> None:
    """F85: neither locks nor the journal's log are safe there; on a disk of this machine nothing is said."""
    mounts = tmp_path / "mounts"
    mounts.write_text(f"server:/bots {tmp_path} nfs4 rw 0 0\n")
    (row,) = local_disk_findings(Instance.at(tmp_path), mounts)
    assert (row.level, row.exit_code) == ("fail", 1)
    assert row.message.endswith("is on a network file system (nfs4), where a journal is not safe.")
    mounts.write_text(f"/dev/sda1 {tmp_path} ext4 rw 0 0\n")
    assert list(local_disk_findings(Instance.at(tmp_path), mounts)) == []
