#!/bin/sh
# Writes a root file system with Ceph's object gateway (release 20, Debian sid) as a tar to stdout.
#
# Packages are unpacked, not configured: the gateway needs none of what their scripts set up, and
# half a minute is saved. The mirror is the one this machine's apt uses; DEBIAN_MIRROR names another.
# A mirror that stands still (a snapshot) is as good as any: its age is not checked, its signature is.
set -eu
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' |
    grep -v -- -security | head -1)}
[ -n "$mirror" ] || { echo "apt knows no mirror: set DEBIAN_MIRROR" >&2; exit 69; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

cat >"$scratch/finish.sh" <<'HOOK'
set -eu
root=$1
chroot "$root" /sbin/ldconfig
cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
[ -e "$root/bin/sh" ] || ln -s dash "$root/bin/sh"
rm -rf "$root"/usr/share/doc "$root"/usr/share/man "$root"/usr/share/locale \
    "$root"/var/cache/* "$root"/var/lib/apt
HOOK

TMPDIR=$scratch mmdebstrap --variant=extract --mode=root \
    --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
    --include=base-files,base-passwd,bash,dash,coreutils,grep,libc-bin \
    --include=ceph-base,ceph-common,ceph-mon,ceph-osd,radosgw \
    --aptopt='Acquire::Check-Valid-Until "false"' \
    --aptopt='APT::Install-Recommends "false"' \
    --extract-hook="sh $scratch/finish.sh \"\$1\"" \
    sid - "$mirror"
