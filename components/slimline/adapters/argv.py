"""The command line of a component, read from its class, and back again.

    slimline run quantize --model URI --calibration URI --scheme int8-static --store URI

Inputs and parameters are options of their own names. A list is repeated or given as one
JSON text, a nested value is JSON.
An output's option copies what was made to a directory of yours.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slimline.contract import BadParameters, execute, open_store

if TYPE_CHECKING:
    from slimline.contract.component import Component
    from slimline.contract.job import Outcome

Schema = dict[str, Any]


def to_argv(component: Component) -> list[str]:
    """The arguments after `slimline run` that make this job again; never a secret."""
    argv = [component.reference()]
    for name, artifacts in component.input_artifacts().items():
        for artifact in artifacts:
            argv += [flag(name), artifact.uri]
    schemas = parameter_schemas(type(component))
    for name, value in component.parameter_values().items():
        argv += option_text(name, value, schemas[name])
    return argv


def command_for(component: type[Component]) -> click.Command:
    """The click command of one component."""
    options: list[click.Parameter] = [
        *(_input_option(component, name) for name in component.inputs()),
        *(_parameter_option(n, s) for n, s in parameter_schemas(component).items()),
        *(_output_option(component, name) for name in component.outputs()),
        *_job_options(),
    ]

    def run(**given: Any) -> None:
        _run(component, given)

    return click.Command(
        component.component_name(),
        params=options,
        callback=run,
        help=component.__doc__,
        context_settings={"max_content_width": 100, "show_default": True},
    )


def parameter_schemas(component: type[Component]) -> dict[str, Schema]:
    """JSON Schema of each parameter, references resolved one level, `X or null` as X."""
    whole = component.parameters_model().model_json_schema()
    definitions = whole.get("$defs", {})
    return {n: _plain(s, definitions) for n, s in whole.get("properties", {}).items()}


def values_of(component: type[Component], given: dict[str, Any]) -> dict[str, Any]:
    """The component's field values from click's option values; what was left out is left out."""
    values = {
        name: _value(name, given[name], schema)
        for name, schema in parameter_schemas(component).items()
        if given[name] not in (None, ())
    }
    for name, port in component.inputs().items():
        if given[name]:
            values[name] = list(given[name]) if port.many else given[name]
    return values


def _run(component: type[Component], given: dict[str, Any]) -> None:
    job = component.parse(values_of(component, given))
    copies = {name: given[name] for name in component.outputs() if given[name]}
    for name, text in copies.items():
        _new_directory(name, text)  # now, not after hours of work
    work_dir = Path(given["work_dir"] or tempfile.mkdtemp(prefix="slimline-"))
    try:
        outcome = execute(
            job,
            open_store(given["store"]),
            work_dir=work_dir,
            image=given["image_digest"],
            lineage=given["lineage"],
            force=given["force"],
        )
        for name, text in copies.items():
            _copy_output(outcome, name, _new_directory(name, text))
    finally:
        if not given["work_dir"]:
            shutil.rmtree(work_dir, ignore_errors=True)
    click.echo(describe(outcome))


def describe(outcome: Outcome) -> str:
    """What `slimline run` prints: job, reason, outputs and numbers as JSON."""
    manifest = outcome.manifest
    return json.dumps(
        {
            "job": manifest.job,
            "reason": manifest.reason,
            "outputs": {n: r.model_dump() for n, r in manifest.outputs.items()},
            "numbers": manifest.numbers,
        },
        indent=1,
    )


def _new_directory(name: str, text: str) -> Path:
    """Where an output is to be copied: nothing may be there."""
    target = Path(text)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        msg = f"{flag(name)}: {target} is not empty; give a new directory"
        raise BadParameters(msg)
    return target


def _copy_output(outcome: Outcome, name: str, target: Path) -> None:
    """Copy an output whole, or leave nothing."""
    from slimline.contract.store import disk_error, fetch_artifact  # noqa: PLC0415 - if asked for

    try:
        target.mkdir(parents=True, exist_ok=True)
        fetch_artifact(outcome[name], target)
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        raise disk_error(target, error) from error
    except Exception:
        shutil.rmtree(target, ignore_errors=True)
        raise


def _null_is_a_choice(schema: Schema) -> bool:
    """True where None differs from leaving the option out; then the text `null` means None."""
    return bool(schema.get("nullable")) and schema.get("default", ...) is not None


def _value(name: str, given: Any, schema: Schema) -> Any:
    if given in ("null", ("null",)) and _null_is_a_choice(schema):
        return None
    if schema.get("type") == "array":
        return _list(name, given, schema)
    if "enum" in schema:
        return _choice(given, schema["enum"])
    return _json(name, given) if schema.get("type") in _NESTED else given


def _choice(given: str, choices: list[Any]) -> Any:
    """The choice that a text means; numbers are compared with a Literal as numbers alone."""
    meant = (c for c in choices if not isinstance(c, str) and json.dumps(c) == given)
    return next(meant, given)


def _list(name: str, given: tuple[str, ...], schema: Schema) -> Any:
    if len(given) == 1 and given[0].startswith("["):
        return _json(name, given[0])
    items = schema.get("items", {})
    if "enum" in items:
        return [_choice(item, items["enum"]) for item in given]
    nested = items.get("type") in _NESTED
    return [_json(name, item) if nested else item for item in given]


_NESTED = ("object", "array", None)


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        msg = f"{flag(name)}: {text!r:.80} is not JSON ({error})"
        raise BadParameters(msg) from error


def option_text(name: str, value: Any, schema: Schema) -> list[str]:
    """The arguments that give a parameter this JSON value; none where that is to leave it out."""
    if value is None:
        return [flag(name), "null"] if _null_is_a_choice(schema) else []
    plain = isinstance(value, str) and schema.get("type") not in _NESTED
    return [flag(name), value if plain else json.dumps(value)]


def _plain(schema: Schema, definitions: dict[str, Any]) -> Schema:
    merged = dict(schema)
    if "$ref" in merged:
        merged = {**definitions[merged.pop("$ref").rsplit("/", 1)[-1]], **merged}
    choices = [c for c in merged.get("anyOf", ()) if c.get("type") != "null"]
    if len(choices) == 1:
        merged["nullable"] = len(merged.pop("anyOf")) > 1
        merged = {**_plain(choices[0], definitions), **merged}
    return merged


def flag(name: str) -> str:
    """The option of a field: `--calibration-samples`."""
    return "--" + name.replace("_", "-")


def _input_option(component: type[Component], name: str) -> click.Option:
    port = component.inputs()[name]
    return click.Option(
        [flag(name), name],
        required=port.required,
        multiple=port.many,
        metavar=f"{port.artifact.__name__.upper()}",
        help=f"{port.description} URI of a stored artifact, or a directory.",
    )


def _output_option(component: type[Component], name: str) -> click.Option:
    description = component.outputs()[name].description
    return click.Option([flag(name), name], metavar="DIR", help=f"{description} Copied to DIR.")


def _parameter_option(name: str, schema: Schema) -> click.Option:
    help_text = schema.get("description", "") + _bounds(schema)
    default = schema.get("default")
    shown = f"  [default: {json.dumps(default)}]" if default not in (None, "", [], {}) else ""
    return click.Option(
        [flag(name), name],
        multiple=schema.get("type") == "array",
        metavar=_metavar(schema),
        help=help_text + shown,
        show_default=False,
    )


def _metavar(schema: Schema) -> str:
    if "enum" in schema:
        return "|".join(str(v) for v in schema["enum"])
    names = {"integer": "INTEGER", "number": "NUMBER", "string": "TEXT", "boolean": "true|false"}
    return names.get(str(schema.get("type")), "JSON")


def _bounds(schema: Schema) -> str:
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    told = [f"{word} {schema[key]}" for key, word in words.items() if key in schema]
    return f" ({', '.join(told)})" if told else ""


def _job_options() -> list[click.Parameter]:
    return [
        click.Option(
            ["--store"],
            envvar="SLIMLINE_STORE",
            required=True,
            metavar="URI",
            help="Where artifacts and manifests are kept: s3://bucket/prefix or a directory. "
            "[env: SLIMLINE_STORE]",
        ),
        click.Option(["--work-dir"], metavar="DIR", help="Where files are staged; kept if given."),
        click.Option(["--lineage"], default="", help="The step it answers for: recipe/step."),
        click.Option(["--image-digest"], default="", help="Digest of the image it runs in."),
        click.Option(["--force"], is_flag=True, help="Run even when an equal job was done."),
    ]
