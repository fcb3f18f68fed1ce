"""A campaign from the first wave to the last, or back."""

from __future__ import annotations

import math
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slimline.contract import Meter, get_logger
from slimline.fleet.documents import WHOLE, Budget, Campaign, Wave, bucket

if TYPE_CHECKING:
    from collections.abc import Callable

    from slimline.fleet.documents import Descriptor, Status
    from slimline.ota.campaigns import Campaigns

log = get_logger(__name__)
_ANSWERS = ("updated", "rolled_back", "refused")
_FAILURES = ("rolled_back", "refused")


@dataclass(frozen=True)
class Plan:
    """What a rollout shall do; see `Ota` for the fields."""

    group: str
    release: Descriptor
    previous: Descriptor | None
    canaries: int
    percents: tuple[float, ...]
    failure_threshold: float
    min_reports: float
    timeout: float
    poll: float
    budget: Budget


@dataclass(frozen=True)
class Result:
    """How it went: statuses before, in answer to the update, and at the end, by device."""

    campaign: Campaign
    rollback: Campaign | None
    reasons: tuple[str, ...]
    before: dict[str, Status]
    answers: dict[str, Status]
    now: dict[str, Status]


class Rollout:
    """One run of a plan over a group of devices."""

    def __init__(self, campaigns: Campaigns, plan: Plan) -> None:
        self._campaigns, self._plan = campaigns, plan
        self._devices = campaigns.devices()
        self._digest = plan.release.package_digest

    def run(self) -> Result:
        """Open wave after wave; on failure tell everyone to go back.

        A run that was killed goes on where it was: the campaign in force is taken up again when it
        is about the same package under the same terms.
        """
        before = self._campaigns.reports()
        campaign = self._campaign()
        if self._all_run_it(before):
            return self._done_at_once(campaign, before)
        for number in range(len(campaign.waves)):
            opened = max(campaign.open_waves, number + 1)
            campaign = campaign.model_copy(update={"open_waves": opened})
            self._campaigns.announce(campaign)
            trouble = self._wait_for_wave(campaign, number)
            if trouble:
                return self._go_back(campaign, before, trouble)
        now = self._campaigns.reports()
        return Result(campaign, None, (), before, _answers(now, campaign), now)

    def _campaign(self) -> Campaign:
        current = self._campaigns.current()
        made = self._new_campaign()
        if current is not None and _terms(current) == _terms(made):
            return current
        return made

    def _new_campaign(self) -> Campaign:
        plan, salt = self._plan, secrets.token_hex(8)
        first = sorted(self._devices, key=lambda device: bucket(salt, device))[: plan.canaries]
        canary = (Wave(devices=tuple(first)),) if first else ()
        later = tuple(Wave(threshold=round(p / 100 * WHOLE)) for p in plan.percents)
        return Campaign(
            id=f"{plan.release.version[:40]}-{secrets.token_hex(4)}",
            group=plan.group,
            kind="update",
            release=plan.release.target,
            package_digest=self._digest,
            salt=salt,
            waves=canary + later,
            open_waves=0,
            failure_threshold=plan.failure_threshold,
            budget=plan.budget,
        )

    def _all_run_it(self, statuses: dict[str, Status]) -> bool:
        digests = [s.after.digest for s in statuses.values() if s.after is not None]
        return len(digests) == len(self._devices) and set(digests) == {self._digest}

    def _done_at_once(self, campaign: Campaign, before: dict[str, Status]) -> Result:
        log.info("all %d devices run %s already", len(before), self._plan.release.version)
        opened = campaign.model_copy(update={"open_waves": len(campaign.waves)})
        self._campaigns.announce(opened)
        return Result(opened, None, (), before, {}, before)

    def _wait_for_wave(self, campaign: Campaign, number: int) -> str:
        """Wait for reports of the waves up to `number`; returns what is wrong, or ""."""
        members = [d for d in self._devices if _is_in(campaign, d, number)]
        needed = math.ceil(len(members) * self._plan.min_reports - 1e-9)
        allowed = self._plan.failure_threshold * len(members)
        meter = Meter(needed, f"ota: wave {number + 1} of {len(campaign.waves)}")
        verdict = ""

        def settled(statuses: dict[str, Status]) -> bool:
            nonlocal verdict
            answers = {d: s for d, s in _answers(statuses, campaign).items() if d in members}
            failed = {d: s for d, s in answers.items() if s.state in _FAILURES}
            meter.show(min(len(answers), needed), f"reported, {len(failed)} failed")
            if len(failed) > allowed:
                verdict = _told_failures(failed, len(members), number)
            return bool(verdict) or len(answers) >= needed

        if self._wait(settled) or verdict:
            return verdict
        return self._told_silence(campaign, members, needed, number)

    def _go_back(self, campaign: Campaign, before: dict[str, Status], trouble: str) -> Result:
        log.warning("the campaign is halted: %s", trouble)  # the way back has no budget to miss
        answers = _answers(self._campaigns.reports(), campaign)
        plan, previous = self._plan, self._plan.previous
        back = campaign.model_copy(
            update={
                "id": f"back-{secrets.token_hex(4)}",
                "kind": "rollback",
                "release": previous.target if previous else None,
                "package_digest": previous.package_digest if previous else None,
                "leave": self._digest,
                "waves": (Wave(threshold=WHOLE),),
                "open_waves": 1,
                "budget": Budget(tries=plan.budget.tries),
            }
        )
        self._campaigns.announce(back)
        reasons = (trouble, *self._wait_for_return(campaign, back, answers))
        now = self._campaigns.reports()
        return Result(campaign, back, reasons, before, answers, now)

    def _wait_for_return(
        self, campaign: Campaign, back: Campaign, answers: dict[str, Status]
    ) -> tuple[str, ...]:
        """Wait until every device that may have the new package is off it."""
        exposed = {d for d in self._devices if campaign.is_open_for(d)}
        awaited = {d for d in exposed if d in self._campaigns.reports()} | set(answers)
        meter = Meter(len(awaited), "ota: rollback")

        def left(statuses: dict[str, Status]) -> set[str]:
            return {d for d in awaited if not self._is_back(statuses.get(d), back)}

        def settled(statuses: dict[str, Status]) -> bool:
            meter.show(len(awaited) - len(left(statuses)), "are back")
            return not left(statuses)

        if self._wait(settled):
            return ()
        missing = ", ".join(sorted(left(self._campaigns.reports())))
        return (f"not confirmed to be off the package yet: {missing}",)

    def _is_back(self, status: Status | None, back: Campaign) -> bool:
        if status is None or status.campaign != back.id:
            return False
        return status.after is None or status.after.digest != self._digest

    def _wait(self, settled: Callable[[dict[str, Status]], bool]) -> bool:
        ends = time.monotonic() + self._plan.timeout
        while not settled(self._campaigns.reports()):
            if time.monotonic() >= ends:
                return False
            time.sleep(self._plan.poll)
        return True

    def _told_silence(
        self, campaign: Campaign, members: list[str], needed: int, number: int
    ) -> str:
        statuses = self._campaigns.reports()
        answered = _answers(statuses, campaign)
        silent = [d for d in members if d not in answered]
        words = [
            f"{d} ({statuses[d].state}: {statuses[d].reason})" if d in statuses else d
            for d in silent
        ]
        return (
            f"wave {number + 1}: {len(members) - len(silent)} of {len(members)} devices reported "
            f"within {self._plan.timeout:g} s, {needed} are needed; silent: {', '.join(words)}"
        )


def _is_in(campaign: Campaign, device: str, number: int) -> bool:
    wave = campaign.wave_of(device)
    return wave is not None and wave <= number


def _answers(statuses: dict[str, Status], campaign: Campaign) -> dict[str, Status]:
    return {
        device: status
        for device, status in statuses.items()
        if status.campaign == campaign.id and status.state in _ANSWERS
    }


def _told_failures(failed: dict[str, Status], members: int, number: int) -> str:
    device = min(failed)
    told = f"{device}: {failed[device].reason}"
    return f"wave {number + 1}: {len(failed)} of {members} devices failed; {told}"


def _terms(campaign: Campaign) -> tuple[object, ...]:
    """What makes two campaigns the same but for the time they were made."""
    return (
        campaign.kind,
        campaign.package_digest,
        len(campaign.waves),
        tuple((len(wave.devices), wave.threshold) for wave in campaign.waves),
        campaign.failure_threshold,
        campaign.budget,
    )
