"""When a failed task is tried again: the job's exit code decides, and each decision has a reason.

Codes are those of `slimline.contract.errors`. A wrong parameter or wrong data stays wrong, so a
retry would only cost time; a service that is away may come back; a killed job left a checkpoint
and goes on from it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy
from airflow.sdk.exceptions import AirflowException

from slimline.contract import SlimlineError

if TYPE_CHECKING:
    from airflow.sdk import Context

_SOON = timedelta(seconds=5)
_FIRST, _LONGEST = timedelta(seconds=15), timedelta(minutes=10)
_NEVER = {
    1: "a bug: look at the log above",
    64: "a parameter is wrong: correct it and start a new run",
    65: "the data is wrong or was refused: trying again gives the same",
}
_AWAY = 75
_KILLED = {
    137: "it was killed, perhaps for memory: it goes on from its checkpoint",
    143: "it was told to stop: it goes on from its checkpoint",
}


class JobFailed(AirflowException):
    """A job ended with another exit code than 0."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class ExitCodePolicy(RetryPolicy):
    """Retry by exit code; an exception that has none follows the task's own settings."""

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,  # noqa: ARG002 - Airflow's signature
        context: Context | None = None,  # noqa: ARG002 - Airflow's signature
    ) -> RetryDecision:
        """See `RetryPolicy.evaluate`."""
        if not isinstance(exception, (JobFailed, SlimlineError)):
            return RetryDecision.default()
        code = exception.exit_code
        if code == _AWAY:
            delay = min(_FIRST * 2 ** (try_number - 1), _LONGEST)
            return RetryDecision.retry(delay, "exit code 75: something is away now; trying later")
        if code in _KILLED:
            return RetryDecision.retry(_SOON, f"exit code {code}: {_KILLED[code]}")
        return RetryDecision.fail(f"exit code {code}: {_NEVER.get(code, 'not one to retry')}")
