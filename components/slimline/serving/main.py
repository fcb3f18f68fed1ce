"""From the command line to the exit code: bind, load, serve, drain."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

from slimline.contract import SlimlineError, get_logger
from slimline.contract.log import setup_logging
from slimline.serving.app import App
from slimline.serving.model import load_package
from slimline.serving.server import bind, drain, make_server
from slimline.serving.settings import read_settings
from slimline.serving.state import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slimline.serving.settings import Settings

log = get_logger(__name__)


def main(argv: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code.

    0 after draining, 64 for wrong options, 65 for a package that is refused, 75 for a taken port.
    """
    setup_logging()
    try:
        settings = read_settings(argv)
        return _run(settings)
    except SlimlineError as error:
        log.error("%s", error)  # noqa: TRY400 - told by its message; a trace helps nobody
        return error.exit_code


def _run(settings: Settings) -> int:
    listening = bind(settings)
    app = App(settings, State())
    server = make_server(app)
    try:
        with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
            return runner.run(_serve(server, app, settings, listening))
    finally:
        app.close()


async def _serve(server: Any, app: App, settings: Settings, listening: Any) -> int:
    stopping = _on_signals()
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    code = await _load(app, settings, stopping)
    if code is None:
        await stopping.wait()
        log.info("draining")
        await drain(server, app, settings)
        log.info("stopped")
        code = 0
    server.should_exit = True
    await serving
    return code


async def _load(app: App, settings: Settings, stopping: asyncio.Event) -> int | None:
    """Load the package while probes are answered; the exit code when that is the end of it."""
    loading = asyncio.create_task(
        asyncio.to_thread(load_package, settings.model_dir, settings.threads)
    )
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait((loading, stop), return_when=asyncio.FIRST_COMPLETED)
    if not loading.done():
        return 0
    stop.cancel()
    try:
        model = await loading
    except SlimlineError as error:
        app.state.refuse(str(error))
        log.error("refused to serve %s: %s", settings.model_dir, error)  # noqa: TRY400 - as above
        return error.exit_code
    app.state.model = model
    log.info(
        "ready: %s %s, package %s, pid %d", model.name, model.version, model.digest, os.getpid()
    )
    return None


def _on_signals() -> asyncio.Event:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    return told
