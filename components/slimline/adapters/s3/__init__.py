"""S3 as a store: AWS, or any server that speaks its protocol (`AWS_ENDPOINT_URL_S3`).

Credentials come by boto3's own chain. The sha256 of every object is kept in its metadata and
checked by us on every read: a server's ETag is no content hash, and not every server checks sums.

Large files go in parts, several at once, up and down. At most eight parts are held in memory,
however large and many the files are. A connection that breaks costs what was under way: a download
goes on from the byte it had reached, an upload that was killed from the parts that are there.

It does not decide races: whether two `put(if_absent=True)` at the same moment can both succeed is
up to the server (on AWS they cannot). `contract.cache.commit` is harmless either way.
"""

from slimline.adapters.s3.store import S3Store

__all__ = ["S3Store"]
