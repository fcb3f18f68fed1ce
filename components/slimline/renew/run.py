"""Open the fleet's repository, sign what needs it, tell until when it counts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from slimline.contract import get_logger, secret
from slimline.fleet.keys import parse_fleet_keys
from slimline.fleet.objects import open_objects
from slimline.fleet.repository import Repository

if TYPE_CHECKING:
    from slimline.contract import Numbers
    from slimline.renew.spec import Renew

log = get_logger(__name__)


def run(job: Renew) -> Numbers:
    """Renew the repository."""
    keys = parse_fleet_keys(secret("tuf"))
    ends = Repository(open_objects(job.repository), keys).refresh()
    told = {role: end.isoformat() for role, end in ends.items()}
    for role, end in told.items():
        log.info("%s counts until %s", role, end)
    numbers: Numbers = {"repository": job.repository, "expires": told}
    (job.receipt.path / "receipt.json").write_text(json.dumps(numbers, indent=1))
    return numbers
