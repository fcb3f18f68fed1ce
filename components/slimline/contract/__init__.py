"""What a component is, and the rules it keeps: artifact, identity, manifest, store, errors, logs.

Rooms import this package and nothing of one another. It imports pydantic and the standard library.
"""

from slimline.contract.artifact import (
    Artifact,
    Dataset,
    Evaluation,
    Model,
    Package,
    Receipt,
    Report,
    Verdict,
    canonical_json,
    digest_json,
    sha256_file,
)
from slimline.contract.component import (
    Component,
    Input,
    Numbers,
    Output,
    component_names,
    load_component,
    output,
)
from slimline.contract.errors import (
    BadData,
    BadParameters,
    Killed,
    Refused,
    SlimlineError,
    TryLater,
)
from slimline.contract.job import checkpoint, execute, run_inside
from slimline.contract.log import Meter, get_logger, progress
from slimline.contract.resources import Access, Resources, memory_bytes
from slimline.contract.secrets import secret
from slimline.contract.store import LocalStore, Store, open_store, safe_join

__all__ = [
    "Access",
    "Artifact",
    "BadData",
    "BadParameters",
    "Component",
    "Dataset",
    "Evaluation",
    "Input",
    "Killed",
    "LocalStore",
    "Meter",
    "Model",
    "Numbers",
    "Output",
    "Package",
    "Receipt",
    "Refused",
    "Report",
    "Resources",
    "SlimlineError",
    "Store",
    "TryLater",
    "Verdict",
    "canonical_json",
    "checkpoint",
    "component_names",
    "digest_json",
    "execute",
    "get_logger",
    "load_component",
    "memory_bytes",
    "open_store",
    "output",
    "progress",
    "run_inside",
    "safe_join",
    "secret",
    "sha256_file",
]
