"""What to try next: optuna's samplers over the choices of a space, asked a generation at a time.

Proposals follow from the seed and from what was told, nothing else; so going through the same
results again gives the same proposals, and no study has to be kept.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from slimline.search.space import ChainStep, chain_key, is_numeric

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from optuna.samplers import BaseSampler
    from optuna.trial import Trial

    from slimline.search.settings import SearchSettings
    from slimline.search.space import Chain, Space

_OBJECTIVES = 3
_TRIES = 20
"""Proposals of the sampler that may repeat a chain before one is drawn that was not tried."""
_LISTED = 4096
"""A space of so many choices is gone through whole; in a larger one, choices are drawn."""


@dataclass(frozen=True)
class Proposal:
    """A chain to try, and optuna's own record of it."""

    chain: Chain
    trial: Trial

    @property
    def key(self) -> str:
        """The chain's short name."""
        return chain_key(self.chain)


class Optimiser:
    """Asks optuna for chains that were not tried before, and tells it what they gave."""

    def __init__(self, settings: SearchSettings) -> None:
        """Begin a search anew."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = settings.space
        self._study = optuna.create_study(
            directions=["minimize"] * _OBJECTIVES, sampler=_sampler(settings)
        )
        # The teacher itself, left as it is, has been measured.
        self._seen: set[str] = {chain_key((ChainStep(component="export"),))}
        self._rest = _drawn(self._space, settings.seed)

    def ask(self, count: int) -> tuple[Proposal, ...]:
        """Up to `count` new chains; fewer when the space holds no more."""
        made: list[Proposal] = []
        while len(made) < count and (proposal := self._new()) is not None:
            made.append(proposal)
        return tuple(made)

    def tell(self, proposal: Proposal, objectives: Sequence[float], violation: float) -> None:
        """Say what a chain gave; a violation above 0 ranks it behind all that keep the limits."""
        proposal.trial.set_constraint("limits", violation)
        self._study.tell(proposal.trial, list(objectives))

    def forget(self, proposal: Proposal) -> None:
        """Say that a chain could not be made or was not tried: nothing is learned from it."""
        from optuna.trial import TrialState

        self._study.tell(proposal.trial, state=TrialState.FAIL)

    def _new(self) -> Proposal | None:
        for _ in range(_TRIES):
            proposal = self._asked()
            if proposal.key not in self._seen:
                self._seen.add(proposal.key)
                return proposal
            self.forget(proposal)
        for picked in self._rest:
            key = chain_key(self._space.chain(picked))
            if key not in self._seen:
                self._seen.add(key)
                self._study.enqueue_trial(dict(picked))
                return self._asked()
        return None

    def _asked(self) -> Proposal:
        trial = self._study.ask()
        picked = {n: _pick(trial, n, values) for n, values in self._space.dimensions.items()}
        return Proposal(self._space.chain(picked), trial)


def _pick(trial: Trial, name: str, choices: tuple[Any, ...]) -> int:
    """The index of a choice; numbers have an order, and the sampler may use it."""
    if is_numeric(choices):
        return trial.suggest_int(name, 0, len(choices) - 1)
    return trial.suggest_categorical(name, range(len(choices)))


def _sampler(settings: SearchSettings) -> BaseSampler:
    from optuna.samplers import NSGAIISampler, TPESampler

    if settings.algorithm == "nsga2":
        return NSGAIISampler(seed=settings.seed, population_size=settings.population)
    return TPESampler(seed=settings.seed, n_startup_trials=settings.population)


def _drawn(space: Space, seed: int) -> Iterator[dict[str, int]]:
    """Choices in an order drawn from the seed: each once in a small space."""
    draw = random.Random(seed)  # noqa: S311 - an order, not a secret
    names = list(space.dimensions)
    ranges = [range(len(choices)) for choices in space.dimensions.values()]
    if space.size <= _LISTED:
        listed = [dict(zip(names, picked, strict=True)) for picked in product(*ranges)]
        draw.shuffle(listed)
        yield from listed
        return
    for _ in range(_LISTED):
        yield {name: draw.choice(indices) for name, indices in zip(names, ranges, strict=True)}
