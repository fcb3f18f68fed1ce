"""The task after a component that judges: no clear yes is a no, and a no is not tried again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

if TYPE_CHECKING:
    from airflow.sdk import Context


class GateOperator(BaseOperator):
    """Fails, quoting the reasons, unless the judging task's numbers say `passed: true`."""

    ui_color = "#fff4d6"

    def __init__(self, *, judge: str, **kwargs: Any) -> None:
        """Stand behind the task `judge`; `kwargs` are those of BaseOperator."""
        super().__init__(**kwargs)
        self.judge = judge

    def execute(self, context: Context) -> dict[str, Any]:
        """Let pass, or fail without a retry."""
        summary = context["ti"].xcom_pull(task_ids=self.judge) or {}
        numbers: dict[str, Any] = summary.get("numbers") or {}
        reasons = [str(reason) for reason in numbers.get("reasons") or ()]
        if numbers.get("passed") is not True:
            told = "; ".join(reasons) or f"{self.judge} gave no verdict, and no verdict is a no"
            msg = f"refused: {told}"
            raise AirflowFailException(msg)
        self.log.info("%s says yes", self.judge)
        return {"passed": True, "reasons": reasons}
