"""An S3 server in one process: OpenStack Swift with its s3api, all four servers on loopback.

    AWS_ACCESS_KEY_ID=demo:me AWS_SECRET_ACCESS_KEY=... \
        python -m slimline.embedded.s3_server DIR PORT [HOST]

It checks signatures and checksums as S3 does, and keeps its data under DIR alone. PORT 0 takes a
free one; the line `ready http://127.0.0.1:<port>` on stdout tells which. Writing a count to
`DIR/fault` makes that many requests fail with 503 SlowDown. HOST is the address to listen on when
containers or other machines shall reach it.

It does not decide racing conditional writes: several `If-None-Match: *` at the same moment may all
succeed. Its three inner servers (account, container, object) ask nobody for a password, so whoever
can log in to this machine can read the data: it is for demos and tests.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Any]

EX_USAGE = 64
"""Exit code for bad arguments, as in `slimline.contract.errors`: pydantic cannot live with the
green threads of this process, so nothing of the contract is imported here."""
INNER = ("account", "container", "object")
_OWN_FILTERS = ("fault", "memory")
_FILTERS = (
    "fault memory catch_errors gatekeeper healthcheck listing_formats bulk s3api tempauth copy slo "
    "versioned_writes symlink"
)
_SLOW_DOWN = (
    b'<?xml version="1.0"?><Error><Code>SlowDown</Code>'
    b"<Message>Please reduce your request rate.</Message></Error>"
)


@dataclass(frozen=True)
class Settings:
    """Where the server keeps its data, and the one user it knows."""

    root: Path
    port: int
    account: str
    user: str
    secret: str
    region: str
    host: str = "127.0.0.1"

    @classmethod
    def from_environment(cls, root: Path, port: int, host: str = "127.0.0.1") -> Settings:
        """Take the credentials from the environment, where no process list shows them.

        Raises:
            ValueError: when a credential is missing or has a form that Swift cannot keep.
        """
        key = os.environ.get("AWS_ACCESS_KEY_ID", "")
        if not re.fullmatch(r"[a-z0-9]+:[a-z0-9]+", key):
            msg = (
                f"AWS_ACCESS_KEY_ID is {key!r}: this server needs account:user in lower-case "
                "letters and digits, such as demo:me"
            )
            raise ValueError(msg)
        secret = os.environ.get("AWS_SECRET_ACCESS_KEY", "")
        if not re.fullmatch(r"[\w+/=-]{8,}", secret, re.ASCII):
            msg = "AWS_SECRET_ACCESS_KEY: give 8 or more letters, digits or -_+/= to this server"
            raise ValueError(msg)
        account, user = key.split(":")
        region = os.environ.get("AWS_REGION", "us-east-1")
        return cls(root.resolve(), port, account, user, secret, region, host)


def main() -> int:
    """Serve until a signal ends the process."""
    if len(sys.argv) not in (3, 4) or not sys.argv[2].isdecimal():
        sys.stderr.write("usage: python -m slimline.embedded.s3_server DIR PORT [HOST]\n")
        return EX_USAGE
    try:
        settings = Settings.from_environment(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return EX_USAGE
    serve(settings)
    return 0


def serve(settings: Settings) -> None:
    """Start the four servers as green threads of this process and say when they answer."""
    eventlet = _patched_eventlet()
    _write_swift_conf(settings.root)
    # A port is chosen by binding it, and kept: nobody can take it between choice and use.
    listeners = {name: eventlet.listen(("127.0.0.1", 0), backlog=1024) for name in INNER}
    listeners["proxy"] = eventlet.listen((settings.host, settings.port), backlog=1024)
    for name in INNER:
        _write_ring(settings.root, name, listeners[name].getsockname()[1])
    for name, listener in listeners.items():
        conf = proxy_conf(settings) if name == "proxy" else inner_conf(settings, name)
        eventlet.spawn(_serve_one, _load(name, conf), listener)
    port = listeners["proxy"].getsockname()[1]
    sys.stdout.write(f"ready http://{settings.host}:{port}\n")
    sys.stdout.flush()
    while True:
        eventlet.sleep(3600)


def inner_conf(settings: Settings, name: str) -> str:
    """Paste configuration of the account, container or object server."""
    return _common(settings) + dedent(f"""
        devices = {settings.root}/data
        mount_check = false
        fallocate_reserve = 0
        [pipeline:main]
        pipeline = {name}-server
        [app:{name}-server]
        use = egg:swift#{name}
        recon_cache_path = {settings.root}/cache
        """)


def proxy_conf(settings: Settings) -> str:
    """Paste configuration of the server that clients speak to; it holds the secret."""
    options = {
        "fault": f"control = {settings.root}/fault\n",
        "s3api": f"location = {settings.region}\ns3_acl = false\ncheck_bucket_owner = false\n",
        "tempauth": f"user_{settings.account}_{settings.user} = {settings.secret} .admin\n",
        "versioned_writes": "allow_versioned_writes = true\nallow_object_versioning = true\n",
    }
    own = {name: f"paste.filter_factory = {__spec__.name}:{name}_factory" for name in _OWN_FILTERS}
    sections = [
        f"[filter:{name}]\n{own.get(name, f'use = egg:swift#{name}')}\n{options.get(name, '')}"
        for name in _FILTERS.split()
    ]
    pipeline = f"[pipeline:main]\npipeline = {_FILTERS} proxy-server\n"
    app = "[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\n"
    return _common(settings) + "\n" + pipeline + app + "".join(sections)


def fault_factory(_global_conf: dict[str, str], control: str, **_: str) -> Callable[[Wsgi], Wsgi]:
    """Paste filter: answer 503 as often as the number in the file `control` says."""

    def around(app: Wsgi) -> Wsgi:
        def answer(env: dict[str, Any], start: Callable[..., Any]) -> Any:
            if env["PATH_INFO"] == "/healthcheck" or not _take_one(Path(control)):
                return app(env, start)
            env["wsgi.input"].read()
            headers = [("Content-Type", "application/xml"), ("Content-Length", len(_SLOW_DOWN))]
            start("503 Slow Down", [(name, str(value)) for name, value in headers])
            return [_SLOW_DOWN]

        return answer

    return around


class Memory:
    """What Swift asks of memcached, for the one proxy there is: half the time of a request."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[float, str]] = {}

    def get(self, key: str, **_: Any) -> Any:
        """The value, None when there is none or its time is over."""
        until, text = self._kept.get(key, (0.0, "null"))
        return json.loads(text) if monotonic() < until else None

    def set(self, key: str, value: Any, time: float = 0, **_: Any) -> None:
        """Keep a value, copied as JSON, for a number of seconds; 0 is for good."""
        self._kept[key] = (monotonic() + (time or 1e9), json.dumps(value))

    def delete(self, key: str, **_: Any) -> None:
        """Forget a value."""
        self._kept.pop(key, None)


def memory_factory(_global_conf: dict[str, str], **_: str) -> Callable[[Wsgi], Wsgi]:
    """Paste filter: give Swift a cache for what it knows of accounts and containers."""
    memory = Memory()

    def around(app: Wsgi) -> Wsgi:
        def answer(env: dict[str, Any], start: Callable[..., Any]) -> Any:
            env["swift.cache"] = memory
            return app(env, start)

        return answer

    return around


def log_handlers(_conf: object, name: str, *rest: Any) -> None:
    """Swift's hook for log handlers: to stderr instead of syslog."""
    logger: logging.Logger = rest[3]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"{name}: %(message)s"))
    logger.handlers = [handler]


def _late(module: str) -> Any:
    """Import Swift and eventlet late: nothing of Swift may be there before the patch."""
    return importlib.import_module(module)


def _patched_eventlet() -> Any:
    warnings.simplefilter("ignore")  # eventlet is deprecated; Swift rests on it all the same
    eventlet = _late("eventlet")
    _late("swift.common.utils").monkey_patch()
    return eventlet


def _write_swift_conf(root: Path) -> None:
    for folder in ("etc", "data/d1", "cache"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "etc" / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_prefix = slimline\nswift_hash_path_suffix = slimline\n"
        "[storage-policy:0]\nname = one\ndefault = yes\n"
    )
    _late("swift.common.utils").set_swift_dir(str(root / "etc"))


def _write_ring(root: Path, name: str, port: int) -> None:
    """Tell the proxy where the one account, container or object server is."""
    builder = _late("swift.common.ring").RingBuilder(2, 1, 0)
    where = {"ip": "127.0.0.1", "port": port, "device": "d1"}
    builder.add_dev({"id": 0, "region": 1, "zone": 1, "weight": 1.0, "meta": "", **where})
    builder.rebalance()
    builder.get_ring().save(str(root / "etc" / f"{name}.ring.gz"))


def _load(name: str, conf: str) -> Any:
    wsgi = _late("swift.common.wsgi")
    return wsgi.loadapp(wsgi.ConfigString(conf), global_conf={"log_name": f"s3 {name}"})


def _serve_one(app: Any, listener: Any) -> None:
    _late("eventlet.wsgi").server(
        listener,
        app,
        _late("swift.common.utils").NullLogger(),
        protocol=_late("swift.common.wsgi").SwiftHttpProtocol,
        capitalize_response_headers=False,
        socket_timeout=60,
    )


def _common(settings: Settings) -> str:
    return dedent(f"""
        [DEFAULT]
        bind_ip = 127.0.0.1
        swift_dir = {settings.root}/etc
        log_custom_handlers = {__spec__.name}.log_handlers
        log_address = {settings.root}/none
        log_level = WARNING""")


def _take_one(control: Path) -> bool:
    try:
        left = int(control.read_text())
    except (FileNotFoundError, ValueError):
        return False
    if left <= 0:
        return False
    control.write_text(str(left - 1))
    return True


if __name__ == "__main__":
    sys.exit(main())
