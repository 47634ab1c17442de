"""The commands that alerts and the status name next."""

from __future__ import annotations

from typing import Final

from tbot_core.trading.risk.states import StateCause

FAILOVER_STATUS_COMMAND: Final = "tbot failover status"
FAILOVER_CONFIRM_COMMAND: Final = "tbot failover confirm --amount USD"
FAILOVER_DRILL_COMMAND: Final = "tbot failover drill"
NEXT_COMMANDS: Final = {
    StateCause.KILL_FILE: "rm {control_dir}/kill",
    StateCause.STOP_FILE: "rm {control_dir}/stop",
    StateCause.KILL_COMMAND: "tbot kill --clear",
    StateCause.KILL_SIGNAL: "tbot kill --clear",
    StateCause.NOT_ARMED: "tbot arm",
    StateCause.LOGIN: "tbot check",
    StateCause.DISK_LOW: "tbot check",
    StateCause.PRIMARY_DOWN: FAILOVER_STATUS_COMMAND,
    StateCause.BROKERS_DOWN: FAILOVER_STATUS_COMMAND,
    StateCause.JOURNAL: "tbot audit verify",
    StateCause.JOURNAL_OLDER: "tbot audit accept",
    StateCause.REJECTS: "tbot alerts log",
    StateCause.PLUGIN_LOST: "tbot plugins list",
    StateCause.BROKER_PLUGIN: "tbot plugins list",
}
"""What a person does about a cause."""
