#!/usr/bin/env bash
# Servers from Debian packages for the system tests; none of them is started.
# usage: infra/servers.sh install     what is missing (root)
#        infra/servers.sh missing     the packages that are missing, one a line
set -euo pipefail
declare -A program=(
    [redis-server]=/usr/bin/redis-server
    [postgresql]=/usr/lib/postgresql/*/bin/postgres
    [mosquitto]=/usr/sbin/mosquitto
    [iproute2]=/usr/sbin/ip
    [util-linux]=/usr/bin/unshare
)

missing() {
    local package
    for package in "${!program[@]}"; do
        compgen -G "${program[$package]}" >/dev/null || echo "$package"
    done | sort
}

install() {
    local packages policy=/usr/sbin/policy-rc.d
    mapfile -t packages < <(missing)
    [ ${#packages[@]} -gt 0 ] || { echo "servers: all are there"; return; }
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
        { echo "servers: ${packages[*]} are missing; as root: apt-get install ${packages[*]}" >&2; exit 64; }
    echo "servers: installing ${packages[*]}"
    # A package starts its server when it is set up, unless this says 101.
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' > "$policy"
        chmod 755 "$policy"
        trap "rm -f $policy" EXIT
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${packages[@]}" >/dev/null
}

case "${1:-}" in
    install|missing) "$1" ;;
    *) sed -n 's/^# //p' "$0" >&2; exit 64 ;;
esac
