"""An S3 server's reading half whose one object is made up as it is read: of any size, on no disk.

Every MiB is the same but for its first eight bytes, its number. So a reader that swaps two, or gets
one twice, has another sha256.
"""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BLOCK = 2**20
_REST = bytes(range(248)) + bytes(BLOCK - 256)


def block(number: int) -> bytes:
    """One MiB of the object."""
    return number.to_bytes(8, "big") + _REST


@contextmanager
def endless(size: int):
    """Serve an object of `size` bytes (whole MiB) under every key; yields the endpoint."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
            start, end = int(asked[1]), min(int(asked[2]) + 1, size)
            self.send_response(206)
            self.send_header("Content-Length", str(end - start))
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
            self.send_header("ETag", '"made-up"')
            self.end_headers()
            while start < end:
                data = block(start // BLOCK)[start % BLOCK : start % BLOCK + end - start]
                self.wfile.write(data)
                start += len(data)

        def log_message(self, *_):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
