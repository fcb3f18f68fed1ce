"""Run a job in a hardened container that lives on when its worker dies.

How it works: the container's name is made from the job's identity, so of two workers that start the
same job one creates it and the other attaches. After `kill -9` of the worker the container goes on;
the retry finds it, reads its log from the start and takes the result, be it still to come or there
already. The exit code is the result; the container and its volume are removed when that was taken.

    runner.py     start, attach, wait, stop, discard
    container.py  what a container is given: limits, network, labels
    mounts.py     what of the engine's machine it sees, and as which user
    variables.py  its environment, without what is true on the worker's machine alone
    files.py      what it reads as files: trusted keys, CA bundles, AWS settings
    logs.py       its log, line by line, also across a lost connection
    engine.py     the engine, and its failures with their cure
    sweep.py      removes what nobody came back for

What it does not do: build or pull an image (`images/lock.json` says which one is run), and move a
container to another machine. With a remote engine (DOCKER_HOST is no unix socket) only S3 can be
the store.
"""

from slimline.adapters.runners.docker.runner import DockerHandle, DockerRunner

__all__ = ["DockerHandle", "DockerRunner"]
