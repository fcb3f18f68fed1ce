"""Logs of containers: from the real engine, and the bookkeeping that survives broken streams."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import textwrap

import pytest

from slimline.adapters.runners.docker.engine import EngineAway
from slimline.adapters.runners.docker.logs import LogReader, Position, _messages, _nanoseconds

SECOND = 10**9
BEGIN = _nanoseconds("2026-11-22T19:00:00.000000000Z")


@pytest.mark.docker
def test_lines_of_any_length_and_bytes_come_whole_from_both_streams(docker_bench):
    bench = docker_bench()
    script = """
import sys
out = sys.stdout.buffer
out.write(b'short\\n' + 'ü'.encode() * 40000 + b'\\n' + b'\\xff\\xfe broken\\n\\n\\r\\n')
out.write(b'x' * 3_000_000 + b'\\nprogress\\r\\n')
out.flush()
print('to stderr', file=sys.stderr)
out.write(b'no line break')
"""
    assert bench.script(script).wait(bench.lines.append) == 0
    assert "to stderr" in bench.lines
    lines = [line for line in bench.lines if line != "to stderr"]
    assert lines[:5] == ["short", "ü" * 40000, "\ufffd\ufffd broken", "", ""]
    assert set("".join(lines[5:-2])) == {"x"}
    assert sum(map(len, lines[5:-2])) == 3_000_000
    assert max(map(len, lines)) < 1_100_000
    assert lines[-2:] == ["progress", "no line break"]


_COUNT_LINES = textwrap.dedent(
    """
    import resource, sys
    from slimline.adapters.runners.docker.engine import Engine
    from slimline.adapters.runners.docker.logs import LogReader

    reader = LogReader(Engine(), sys.argv[1])
    next(iter(reader.read(follow=False)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count = sum(1 for _ in LogReader(Engine(), sys.argv[1]).read(follow=False))
    print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
)


@pytest.mark.docker
def test_a_log_of_100_mb_is_read_whole_in_little_memory(docker_bench):
    bench = docker_bench()
    script = "line = 'y' * 999\nfor _ in range(100_000): print(line)"
    handle = bench.script(script)
    bench.runner.engine.api.wait(handle.container)
    argv = [sys.executable, "-c", _COUNT_LINES, handle.container]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    count, kilobytes = map(int, done.stdout.split())
    assert count == 100_000
    assert kilobytes < 20_000


class FakeEngine:
    """An engine's log endpoint over a list of messages, whose stream breaks where a test says."""

    def __init__(self, messages: list[tuple[int, int, bytes]], breaks: list[int]) -> None:
        self.messages, self.breaks = messages, breaks

    def pieces(self, since: int):
        data = b"".join(_frame(*m) for m in self.messages if BEGIN + m[0] >= since)
        end = self.breaks.pop(0) if self.breaks else len(data)
        place = 0
        while place < min(end, len(data)):
            size = random.randint(1, 90)  # noqa: S311 - places to cut
            yield data[place : min(place + size, end)]
            place += size
        if end < len(data):
            raise EngineAway("broke")


class Reader(LogReader):
    def _pieces(self, *, follow: bool):  # noqa: ARG002 - as its base
        return self.engine.pieces(self._position.since)


def _frame(moment: int, stream: int, text: bytes) -> bytes:
    stamp = f"2026-11-22T19:{moment // SECOND // 60:02d}:{moment // SECOND % 60:02d}"
    data = f"{stamp}.{moment % SECOND:09d}Z ".encode() + text
    return struct.pack(">BxxxL", stream, len(data)) + data


def test_wherever_a_stream_breaks_no_line_is_lost_or_doubled():
    random.seed(5)
    for _ in range(150):
        moment, messages = 0, []
        for number in range(60):
            moment += random.choice([0, 0, 1, 1000, SECOND // 7, 3 * SECOND])  # noqa: S311
            skew = random.choice([0, 0, 500])  # noqa: S311 - two threads write
            messages.append((max(0, moment - skew), random.choice([1, 2]), b"%d\n" % number))  # noqa: S311
        breaks = sorted(random.sample(range(2500), 6))
        random.shuffle(breaks)
        reader, lines = Reader(FakeEngine(messages, breaks), "c"), []
        while True:
            try:
                lines.extend(reader.read(follow=True))
                break
            except EngineAway:
                continue
        assert lines == [str(number) for number in range(60)]


def test_the_place_to_go_on_from_stays_a_second_behind_and_the_count_is_small():
    position = Position()
    for number in range(1000):
        position.passed(SECOND * number // 10)
    assert SECOND <= 999 * SECOND // 10 - position.since < 4 * SECOND
    assert position.count < 40


def test_moments_are_read_to_the_nanosecond():
    assert _nanoseconds("1970-01-01T00:00:01.000000002Z") == SECOND + 2
    assert _nanoseconds("1970-01-01T00:00:01Z") == SECOND


def test_messages_are_cut_wherever_the_pieces_end():
    data = b"".join(struct.pack(">BxxxL", 1, 3) + b"abc" for _ in range(3))
    pieces = [data[i : i + 4] for i in range(0, len(data), 4)]
    assert list(_messages(pieces)) == [(1, b"abc")] * 3
