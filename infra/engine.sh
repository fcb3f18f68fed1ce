#!/usr/bin/env bash
# A Docker engine for builds and tests, on Debian and Ubuntu. usage: infra/engine.sh start|stop|status
#   start   nothing when an engine answers; else install one if need be (root) and start it
#   stop    stop what `start` started, and nothing else
#   status  tell whether an engine answers, and who started it; exit code 1 when none does
set -euo pipefail
cd "$(dirname "$0")/.."
state=${SLIMLINE_ENGINE_STATE:-build/engine} # who started the engine, and its log
seconds=60

fail() { echo "engine: $1" >&2; exit 75; }
answers() { docker info >/dev/null 2>&1; }
alive() { [ "$(cat "/proc/$1/comm" 2>/dev/null)" = dockerd ]; }
root() { [ "$(id -u)" = 0 ] || fail "$1 needs root: sudo $0 start"; }

install_engine() {
    root "installing Docker"
    command -v apt-get >/dev/null || fail "no apt-get here: install Docker 20.10 or newer by hand"
    echo "engine: installing docker.io"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
        docker.io iptables >/dev/null
}

wait_for_engine() {
    for _ in $(seq $((seconds * 5))); do
        if answers; then return; fi
        if [ -n "${1:-}" ] && ! kill -0 "$1" 2>/dev/null; then break; fi
        sleep 0.2
    done
    tail -n 20 "$state/log" >&2 || true
    fail "no engine answers; its last words are above, all of them in $state/log"
}

start() {
    if answers; then echo "engine: one answers already"; return; fi
    mkdir -p "$state"
    command -v dockerd >/dev/null || install_engine
    root "starting Docker"
    if [ -d /run/systemd/system ]; then
        systemctl start docker > "$state/log" 2>&1 || true
        echo systemd > "$state/started"
        wait_for_engine
    else
        nohup dockerd > "$state/log" 2>&1 &
        echo "$!" > "$state/started"
        wait_for_engine "$!"
    fi
    echo "engine: started"
}

stop() {
    if [ ! -f "$state/started" ]; then echo "engine: not started from here"; return; fi
    started=$(cat "$state/started")
    if [ "$started" = systemd ]; then
        systemctl stop docker docker.socket
    elif alive "$started"; then
        kill "$started"
        for _ in $(seq $((seconds * 5))); do alive "$started" || break; sleep 0.2; done
        ! alive "$started" || fail "process $started did not stop within $seconds s"
    fi
    rm -f "$state/started"
    echo "engine: stopped"
}

status() {
    if ! answers; then echo "engine: none answers; infra/engine.sh start"; exit 1; fi
    if [ -f "$state/started" ]; then echo "engine: answers, started from here"
    else echo "engine: answers, started by others"; fi
}

case ${1:-} in
    start | stop | status) "$1" ;;
    *) sed -n '2,5s/^# //p' "$0" >&2; exit 64 ;;
esac
