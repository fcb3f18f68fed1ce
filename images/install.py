"""Runs in a build container: wheels in, a trimmed and compiled layer out, byte for byte the same.

usage: install.py WHEELS TOOLS LAYER

Installs every wheel of the folder WHEELS below LAYER/opt/venv with the pip wheel that lies in
TOOLS, so that neither pip nor a network is needed in any image. Then drops what TOOLS/drop.txt
names, compiles the rest, and gives every file one date.
"""

import compileall
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from py_compile import PycInvalidationMode

VENV = "opt/venv"
OPTIONS = (
    *("--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--ignore-installed"),
    *("--disable-pip-version-check", "--no-warn-script-location", "--root-user-action=ignore"),
)
ELF_64_LITTLE = b"\x7fELF\x02\x01"
DATE = 315532800  # 1980-01-01: the first that a zip file can hold


def main(wheels: Path, tools: Path, layer: Path) -> None:
    """Fill `layer`."""
    install(sorted(wheels.glob("*.whl")), tools, layer)
    packages = next((layer / VENV / "lib").glob("python3*")) / "site-packages"
    dropped = drop(packages, (tools / "drop.txt").read_text())
    dropped += sum(cut_symbols(library) for library in packages.rglob("*.so*"))
    compile_all(packages)
    for path in [layer, *layer.rglob("*")]:
        os.utime(path, (DATE, DATE), follow_symlinks=False)
    sys.stdout.write(f"dropped {dropped / 1e6:.0f} MB\n")


def install(wheels: list[Path], tools: Path, layer: Path) -> None:
    """Unpack the wheels with pip, without a look at any index."""
    pip = next(tools.glob("pip-*.whl")) / "pip"
    command = [sys.executable, str(pip), "install", "--quiet", *OPTIONS]
    subprocess.run([*command, "--prefix", str(layer / VENV), *map(str, wheels)], check=True)


def drop(packages: Path, rules: str) -> int:
    """Remove what the rules name; returns the bytes that this saves.

    A line is a glob below site-packages; one that begins with `!` keeps what a glob before it took.
    """
    lines = [line.split("#")[0].strip() for line in rules.splitlines()]
    kept = {path for rule in lines if rule.startswith("!") for path in packages.glob(rule[1:])}
    saved = 0
    for rule in lines:
        if rule and not rule.startswith("!"):
            for path in sorted(packages.glob(rule)):
                if path not in kept and path.exists():
                    saved += remove(path)
    return saved


def remove(path: Path) -> int:
    """Remove a file or a folder; returns its bytes."""
    if path.is_dir():
        size = sum(file.lstat().st_size for file in path.rglob("*"))
        shutil.rmtree(path)
        return size
    size = path.lstat().st_size
    path.unlink()
    return size


def cut_symbols(library: Path) -> int:
    """Cut off what lies behind the last segment that is loaded; returns the bytes that this saves.

    That is the symbol table for debuggers and the table of sections, which no loader reads. As
    nothing that is loaded moves, this is safe where `strip` is not (libraries that patchelf wrote).
    """
    content = library.read_bytes() if library.is_file() and not library.is_symlink() else b""
    if not content.startswith(ELF_64_LITTLE):
        return 0
    (table,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    end: int = table + size * count
    for segment in range(table, table + size * count, size):
        (start,) = struct.unpack_from("<Q", content, segment + 8)
        (length,) = struct.unpack_from("<Q", content, segment + 32)
        end = max(end, start + length)
    header = bytearray(content[:64])
    struct.pack_into("<Q", header, 40, 0)  # where the table of sections is: nowhere
    struct.pack_into("<HH", header, 60, 0, 0)  # how many there are, which holds their names
    library.write_bytes(header + content[64:end])
    return len(content) - end


def compile_all(packages: Path) -> None:
    """Write .pyc files that are never compared with their source: nothing changes in an image.

    A few packages carry files for other versions of Python, which do not compile; they are never
    imported either.
    """
    compileall.compile_dir(
        packages,
        quiet=2,
        workers=0,
        stripdir=str(packages.parents[4]),
        prependdir="/",
        invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
    )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
