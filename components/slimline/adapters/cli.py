"""`slimline`: what is installed, one component at a time, and questions about what ran."""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

import click

from slimline.adapters.argv import command_for
from slimline.contract import (
    BadParameters,
    SlimlineError,
    Store,
    component_names,
    load_component,
    open_store,
    secret,
)
from slimline.contract.cache import last_answer, read_manifest
from slimline.contract.disk import is_full_disk
from slimline.contract.log import setup_logging

_USAGE, _LATER, _BUG = 64, 75, 1
_SHORTEST_PREFIX = 6
_PLACE = "s3://bucket/prefix; its statements are left out if it is not on S3."


def main() -> None:
    """The console script: exit codes are those of sysexits.h."""
    setup_logging()
    try:
        cli.main(standalone_mode=False, prog_name="slimline")
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(_USAGE)
    except SlimlineError as error:
        click.echo(f"slimline: {error}", err=True)
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001 - the last frame: told in full, with a code of its own
        if is_full_disk(error):
            click.echo(f"slimline: the disk is full ({error}); free some space", err=True)
            sys.exit(_LATER)
        traceback.print_exc()
        sys.exit(_BUG)


class _Components(click.Group):
    """A subcommand for each component; its class is loaded when it is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(component_names())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        try:
            command = command_for(load_component(cmd_name))
        except BadParameters as error:
            raise click.UsageError(str(error)) from error
        command.name = cmd_name
        return command


def _names(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in component_names() if name.startswith(incomplete)]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="slimline")
def cli() -> None:
    """Take a PyTorch model to where it runs: small, fast, proven, signed.

    Start with `slimline list`, then `slimline show quantize`. A recipe is checked with
    `slimline recipe check dags/recipes/digits.yaml`. For completion in bash:
    eval "$(_SLIMLINE_COMPLETE=bash_source slimline)"
    """


@cli.command("list")
@click.option("--markdown", is_flag=True, help="As the table of the README.")
def list_components(*, markdown: bool) -> None:
    """List the components that are installed."""
    if markdown:
        click.echo(component_table(), nl=False)
        return
    for name in component_names():
        click.echo(f"{name:<12} {load_component(name).summary()}")


def component_table() -> str:
    """The components as a Markdown table: what each does, takes, gives and runs in."""
    rows = ["| component | what it does | takes | gives | image |", "|---|---|---|---|---|"]
    for name in component_names():
        found = load_component(name)
        takes = ", ".join(found.inputs()) or "-"
        gives = ", ".join(found.outputs())
        rows.append(f"| `{name}` | {found.summary()} | {takes} | {gives} | {found.image} |")
    return "\n".join(rows) + "\n"


@cli.command()
@click.argument("component", shell_complete=_names)
def show(component: str) -> None:
    """Show a component's inputs, outputs, parameters, limits and secrets."""
    found = load_component(component)
    needs = found.needs
    click.echo(f"{component}: {found.__doc__}\n")
    click.echo(f"image {found.image}; at most {needs.cpu} CPU, {needs.memory}, {needs.gpu} GPU")
    click.echo(f"network: {'yes' if needs.network else 'no'}; reuses results: {_yes(found.cached)}")
    click.echo(f"secrets: {', '.join(found.secrets) or 'none'}\n")
    for title, ports in (("takes", found.inputs()), ("gives", found.outputs())):
        for name, port in ports.items():
            many = " (several)" if port.many else ""
            click.echo(f"{title} {name}: {port.artifact.__name__}{many}. {port.description}")
    click.echo(f"\nParameters: slimline run {component} --help")


@cli.group(cls=_Components)
def run() -> None:
    """Run one component here, or reuse what an equal job made."""


@cli.command()
@click.argument("job")
@click.option(
    "--store",
    envvar="SLIMLINE_STORE",
    required=True,
    metavar="URI",
    help="Where manifests are kept. [env: SLIMLINE_STORE]",
)
def why(job: str, store: str) -> None:
    """Say in one sentence why a job ran or was reused.

    JOB is a step of a recipe (digits/quantized), a recipe (digits) or the beginning of a job's
    identity.
    """
    opened = open_store(store)
    answers = _answers(opened, job)
    if not answers:
        msg = f"job {job!r} is not known in {store}; try a recipe's name, or recipe/step"
        raise BadParameters(msg)
    for name, reason in answers:
        click.echo(f"{name}: {reason}")


@cli.command()
@click.argument("uri")
@click.option(
    "--keys",
    type=click.Path(exists=True, path_type=Path),
    help="Directory of trusted public keys (PEM). [env: SLIMLINE_TRUSTED_KEYS]",
)
def verify(uri: str, keys: Path | None) -> None:
    """Verify a package: its files, signature, manifest and verdict; golden inputs are not run.

    URI is that of a pushed package (s3://bucket/prefix/artifacts/<digest>) or a directory.
    """
    from slimline.trust.fetch import verify_uri  # noqa: PLC0415 - heavy, and only here
    from slimline.trust.keys import load_trusted  # noqa: PLC0415

    manifest = verify_uri(uri, load_trusted(keys))
    click.echo(f"verified: {manifest.name} {manifest.version}, model {manifest.model_digest}")


@cli.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--model",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Directory of the model that was judged.",
)
def verdict(directory: Path, model: Path) -> None:
    """Read a signed verdict: it says yes about that very model, or this ends with 65 and reasons.

    DIRECTORY is the verdict that gate made. Trusted are the keys that SLIMLINE_TRUSTED_KEYS names,
    else the one whose private half is the secret `signing`.
    """
    from slimline.contract.artifact import Model  # noqa: PLC0415
    from slimline.trust.keys import (  # noqa: PLC0415 - heavy, and only here
        VARIABLE,
        TrustedKeys,
        load_trusted,
        public_of,
    )
    from slimline.trust.verdict import FILE, require_passed  # noqa: PLC0415

    own = None if os.environ.get(VARIABLE) else TrustedKeys.of(public_of(secret("signing")))
    digest = Model.at(model).digest
    require_passed((directory / FILE).read_bytes(), digest, own or load_trusted())
    click.echo(f"passed: model {digest}")


@cli.command()
@click.argument("component", required=False, shell_complete=_names)
@click.option(
    "--recipe",
    "recipe_file",
    type=click.Path(exists=True, path_type=Path),
    help="A recipe; its whole pipeline is written.",
)
@click.option("--image", default="", help="The component's image; slimline-<image> if not given.")
@click.option(
    "--images",
    "lock_file",
    type=click.Path(exists=True, path_type=Path),
    help="The lock of images that were pushed (images/lock.json), for a recipe.",
)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=COUNT",
    help="How many artifacts an optional input of the component takes; none if not given.",
)
@click.option(
    "--trusted-keys", default="", metavar="CONFIGMAP", help="Of public keys, for a recipe."
)
def kfp(
    component: str | None,
    *,
    recipe_file: Path | None,
    image: str,
    lock_file: Path | None,
    inputs: tuple[str, ...],
    trusted_keys: str,
) -> None:
    """Write a component, or the whole pipeline of a recipe, as Kubeflow Pipelines v2 YAML."""
    from slimline.adapters.images import load_lock  # noqa: PLC0415 - only here
    from slimline.adapters.kfp import component_yaml, pipeline_yaml  # noqa: PLC0415
    from slimline.recipe.load import load_recipe  # noqa: PLC0415 - loads every spec

    if (component is None) == (recipe_file is None):
        msg = "name a component, or a recipe by --recipe FILE"
        raise click.UsageError(msg)
    if recipe_file is not None:
        lock = load_lock(lock_file) if lock_file else None
        recipe = load_recipe(recipe_file)
        click.echo(pipeline_yaml(recipe, lock=lock, trusted_keys=trusted_keys), nl=False)
    else:
        kind = load_component(component or "")
        click.echo(component_yaml(kind, image, _counts(inputs)), nl=False)


@cli.command()
@click.argument("component", required=False, shell_complete=_names)
@click.option("--template", is_flag=True, help="All roles, as the CloudFormation of infra/aws/.")
@click.option("--store", envvar="SLIMLINE_STORE", metavar="URI", default="", help=_PLACE)
@click.option("--releases", envvar="SLIMLINE_RELEASES", metavar="URI", default="", help=_PLACE)
@click.option("--fleet", envvar="SLIMLINE_FLEET", metavar="URI", default="", help=_PLACE)
@click.option("--data", metavar="URI", default="", help="s3://bucket/prefix of source data.")
@click.option(
    "--key", metavar="ARN", default="", help="KMS key of these buckets, if they have one."
)
@click.option("--endpoints", default="slimline-*", show_default=True, help="Names of endpoints.")
@click.option("--prefix", default="slimline", show_default=True, help="Beginning of other names.")
@click.option("--account", default="*", show_default=True, help="AWS account.")
@click.option("--region", envvar="AWS_REGION", default="*", show_default=True, help="AWS region.")
def iam(component: str | None, *, template: bool, **places: str) -> None:
    """Print the IAM policy of a component: what its class declares, and nothing more."""
    from slimline.adapters.aws.policy import cloud_of, policy  # noqa: PLC0415 - only here
    from slimline.adapters.aws.template import template as roles  # noqa: PLC0415

    if template:
        click.echo(roles(), nl=False)
    elif component is None:
        msg = "component is missing: name one (slimline list), or give --template"
        raise click.UsageError(msg)
    else:
        found = policy(load_component(component), cloud_of(**places))
        click.echo(json.dumps(found, indent=1))


@cli.group()
def recipe() -> None:
    """Check recipes, and help an editor to write them."""


@recipe.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def check(files: tuple[Path, ...]) -> None:
    """Check recipe files: every mistake with its line, field and cure."""
    from slimline.recipe.load import load_recipe  # noqa: PLC0415 - loads every spec
    from slimline.recipe.plan import plan  # noqa: PLC0415

    complaints = []
    for file in files:
        try:
            steps = plan(load_recipe(file))
            click.echo(f"{file}: good; {len(steps)} steps: {', '.join(s.name for s in steps)}")
        except BadParameters as error:
            complaints.append(str(error))
    if complaints:
        raise BadParameters("\n".join(complaints))


@recipe.command()
def schema() -> None:
    """Print the JSON Schema of a recipe, for editors."""
    from slimline.recipe.schema import json_schema  # noqa: PLC0415 - loads every spec

    click.echo(json.dumps(json_schema(), indent=1))


def _counts(inputs: tuple[str, ...]) -> dict[str, int]:
    found: dict[str, int] = {}
    for text in inputs:
        name, _, count = text.partition("=")
        if not count.isdecimal():
            msg = f"--input {text}: give NAME=COUNT, such as stages=2"
            raise BadParameters(msg)
        found[name] = int(count)
    return found


def _answers(store: Store, job: str) -> list[tuple[str, str]]:
    """(name, reason) of the steps or jobs that `job` names."""
    names = [job] if "/" in job else sorted(_lineages(store, job))
    told = [(name, answer.reason) for name in names if (answer := last_answer(store, name))]
    if told or len(job) < _SHORTEST_PREFIX:
        return told
    found = {key.split("/")[1] for key in store.keys(f"jobs/{job}")}
    manifests = [m for key in sorted(found) if (m := read_manifest(store, key))]
    return [(f"{m.identity.component} {m.job[:12]}", m.reason) for m in manifests]


def _lineages(store: Store, recipe_name: str) -> list[str]:
    keys = store.keys(f"latest/{recipe_name}/")
    return [key.removeprefix("latest/").removesuffix(".json") for key in keys]


def _yes(value: bool) -> str:  # noqa: FBT001 - a word for a flag
    return "yes" if value else "no"
