"""`get` and `post` over a connection of their own, without reading certificates each time."""

from __future__ import annotations

import functools
import ssl

import httpx

_CERTIFICATES = ssl.create_default_context()

get = functools.partial(httpx.get, verify=_CERTIFICATES, trust_env=False)
post = functools.partial(httpx.post, verify=_CERTIFICATES, trust_env=False)
