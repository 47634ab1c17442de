"""A venue for one client: a stage served at the path that is its argument, until the client has gone."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path

from tbot_core.contracts import VenueRules
from tbot_core.rehearsal.small_world import Stage
from tbot_core.rehearsal.venue_profiles import Character
from tbot_core.rehearsal.venue_server import Counter
from tbot_core.system import local_socket

RULES = VenueRules(lists_closed=True, query_by_cid=True, exec_ids_unique=True, amend_atomic=True)

stage = Stage(Character(rules=RULES, cash=Decimal(50_000)))
with local_socket.listening(Path(sys.argv[1]), 30.0) as listener:
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    line = listener.accept()
    Counter(stage.way, stage.loop, stage.clock).serve(line)
    line.close()
