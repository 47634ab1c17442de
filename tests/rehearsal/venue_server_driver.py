"""A venue for one client: a stage served at the path that is its argument, until the client has gone."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path

from tbot_core.contracts import BrokerCapabilities
from tbot_core.rehearsal.remote_broker import VenueServer
from tbot_core.rehearsal.small_world import SmallWorld
from tbot_core.rehearsal.venue_profiles import VenueProfile
from tbot_core.system import sockets

RULES = BrokerCapabilities(lists_closed=True, query_by_cid=True, exec_ids_unique=True, replace="same_id")

stage = SmallWorld(VenueProfile(rules=RULES, cash=Decimal(50_000)))
with sockets.listen(Path(sys.argv[1]), 30.0) as listener:
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    line = listener.accept()
    VenueServer(stage.way, stage.loop, stage.clock).serve(line)
    line.close()
