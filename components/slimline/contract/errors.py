"""The small tree of errors, each with the exit code that a runner reads.

The codes are those of BSD's sysexits.h. A message names the field, the value and the cure.
"""

from __future__ import annotations

from typing import ClassVar


class SlimlineError(Exception):
    """Something went wrong that a person can act on; the message says how."""

    exit_code: ClassVar[int] = 1


class BadParameters(SlimlineError):
    """A parameter, recipe or command line is wrong: fix it and run again (EX_USAGE)."""

    exit_code: ClassVar[int] = 64


class BadData(SlimlineError):
    """An input was read and found wrong: data, model file, archive (EX_DATAERR)."""

    exit_code: ClassVar[int] = 65


class Refused(BadData):
    """A package, verdict or signature does not prove what it must; nothing was done with it."""


class TryLater(SlimlineError):
    """A service, disk or network is not there now: the same job may work later (EX_TEMPFAIL)."""

    exit_code: ClassVar[int] = 75


class Killed(SlimlineError):
    """SIGTERM arrived; what was reached is saved, and the next try goes on from it."""

    exit_code: ClassVar[int] = 143
