"""How IAM decides, for what moto leaves out: conditions, variables, principals of a resource.

Source: "Policy evaluation logic" and "IAM JSON policy elements: Condition operators" of AWS's IAM
user guide. An operator or element that is not known here is an error, never a guess.
"""

from __future__ import annotations

import re
from typing import Any

from support.aws import matches

_VARIABLE = re.compile(r"\$\{([^}]+)\}")


Context = dict[str, str]
"""Condition keys and policy variables of a call, such as `aws:SecureTransport`."""


_NONE: Context = {}


def allowed(
    policy: dict[str, Any],
    action: str,
    resource: str,
    principal: str = "",
    context: Context = _NONE,
) -> bool:
    """Whether one document allows a call: a statement allows it and none denies it."""
    effects = {
        statement["Effect"]
        for statement in _many(policy["Statement"])
        if _concerns(statement, action, resource, principal, context)
    }
    return "Allow" in effects and "Deny" not in effects


def denied(
    policy: dict[str, Any],
    action: str,
    resource: str,
    principal: str = "",
    context: Context = _NONE,
) -> bool:
    """Whether a statement denies a call outright."""
    return any(
        statement["Effect"] == "Deny" and _concerns(statement, action, resource, principal, context)
        for statement in _many(policy["Statement"])
    )


def _concerns(
    statement: dict[str, Any], action: str, resource: str, principal: str, context: Context
) -> bool:
    unknown = set(statement) - {"Sid", "Effect", "Action", "Resource", "Principal", "Condition"}
    assert not unknown, unknown
    actions = _many(statement["Action"])
    resources = [_filled(r, context) for r in _many(statement.get("Resource", "*"))]
    return (
        any(matches(pattern.lower(), action.lower()) for pattern in actions)
        and any(pattern is not None and matches(pattern, resource) for pattern in resources)
        and _is(statement.get("Principal"), principal)
        and all(
            _holds(operator, key, _many(values), context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, values in keys.items()
        )
    )


def _is(expected: Any, principal: str) -> bool:
    if expected in (None, "*"):
        return True
    return any(principal in _many(who) for who in expected.values())


def _holds(operator: str, key: str, values: list[Any], context: Context) -> bool:
    found = context.get(key)
    expected = [str(v).lower() if isinstance(v, bool) else str(v) for v in values if v is not None]
    if operator == "StringEqualsIfExists":
        return found is None or found in expected
    if operator in ("StringEquals", "Bool"):
        return found in expected
    like = found is not None and any(matches(pattern, found) for pattern in expected)
    if operator in ("ArnEquals", "ArnLike", "StringLike"):
        return like
    if operator == "ArnNotLike":
        return not like
    msg = f"condition operator {operator} is not known here"
    raise NotImplementedError(msg)


def _filled(pattern: str, context: Context) -> str | None:
    """The pattern with its policy variables; None, which matches nothing, where one is unknown."""
    if not set(_VARIABLE.findall(pattern)) <= set(context):
        return None
    return _VARIABLE.sub(lambda found: context[found[1]], pattern)


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
