"""Whether a source changed, found without reading it whole where that can be avoided.

Local files are hashed. Of S3 objects the listing is taken: key, size and ETag, which S3 changes
with the bytes. A source that cannot be looked at is "unknown": the job itself tells why.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from slimline.contract import SlimlineError, digest_json, sha256_file
from slimline.data.sources.remote import Bucket

if TYPE_CHECKING:
    from slimline.data.spec import Source

UNKNOWN = "unknown"


def fingerprint(source: Source) -> str:
    """Hex sha256 that changes when the bytes of a source do; a bundled one has only its name."""
    paths = [getattr(source, name, None) for name in ("path", "test_path")]
    return digest_json([fingerprint_path(path) for path in paths if path])


def fingerprint_path(path: str) -> str:
    """The same for one file, directory or `s3://` prefix."""
    try:
        if path.startswith("s3://"):
            return digest_json(Bucket().versions(path, "path"))
        local = Path(path).expanduser()
        return digest_json(_local(local)) if local.exists() else UNKNOWN
    except (SlimlineError, OSError):
        return UNKNOWN


def _local(root: Path) -> list[tuple[str, str]]:
    files = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file())
    return [(p.relative_to(root).as_posix(), sha256_file(p)) for p in files]
