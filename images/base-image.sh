#!/usr/bin/env bash
# Make a stand-in for python:3.11-slim from Debian packages, where no registry can be reached.
# usage: images/base-image.sh TAG        (root; about 10 s; DOCKER names the client)
#
# Packages are unpacked, not configured: no init scripts, no package manager. What was unpacked is
# written to /var/lib/dpkg/status, where scanners and our bill of materials look for it.
set -euo pipefail
tag=${1:?usage: images/base-image.sh TAG}
docker=${DOCKER:-docker}
suite=bookworm # the Debian release that has Python 3.11

fail() { echo "base image: $1" >&2; exit 75; }

[ "$(id -u)" = 0 ] || fail "needs root: sudo $0 $tag, or name a base: BASE_IMAGE=..."
if ! command -v mmdebstrap >/dev/null; then
    command -v apt-get >/dev/null || fail "install mmdebstrap, or name a base: BASE_IMAGE=..."
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends mmdebstrap >/dev/null
fi

# The archive that this machine installs from.
mirror=${MIRROR:-$(sed -nE 's/^URIs: *([^ ]+).*/\1/p; s/^deb +(\[[^]]*\] +)?([^ ]+).*/\2/p' \
    /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | sed -n 1p || true)}
[ -n "$mirror" ] || fail "no Debian archive is configured on this machine: MIRROR=<url> names one"

wanted=base-files,base-passwd,bash,ca-certificates,coreutils,dash,findutils,grep,libc-bin,libstdc++6
wanted+=,media-types,netbase,python3,sed,tzdata,usr-is-merged

work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cat > "$work/hook" <<'HOOK'
#!/usr/bin/env bash
# Runs outside the new root, which is $1, when all packages lie unpacked in it.
set -euo pipefail
root=$1
python=$root/usr/lib/python3.11

# Installed by dependencies, of use only to a package manager or to modules that are removed below.
unneeded=" debconf debianutils dpkg libcom-err2 libdb5.3 libdebconfclient0 libgssapi-krb5-2 libk5crypto3 libkeyutils1
 libkrb5-3 libkrb5support0 libmd0 libnsl2 libtirpc-common libtirpc3 mawk openssl readline-common tar "
unneeded=${unneeded//$'\n'/ }

: > "$root/var/lib/dpkg/status"
for deb in "$root"/var/cache/apt/archives/*.deb; do
    if [[ $unneeded == *" $(dpkg-deb --field "$deb" Package) "* ]]; then
        dpkg-deb --fsys-tarfile "$deb" | tar --list | grep -v '/$' \
            | (cd "$root" && xargs -d '\n' rm -f --)
        continue
    fi
    dpkg-deb --field "$deb" Package Version Architecture Source Maintainer Homepage \
        | sed '2iStatus: install ok installed'
    echo
done >> "$root/var/lib/dpkg/status"

chroot "$root" /sbin/ldconfig
mkdir -p "$root/etc/ssl/certs"
cat "$root"/usr/share/ca-certificates/mozilla/*.crt > "$root/etc/ssl/certs/ca-certificates.crt"
cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
ln -sf dash "$root/usr/bin/sh"
ln -sf python3 "$root/usr/bin/python"
rm -rf "$python"/{ensurepip/_bundled,idlelib,lib2to3,pydoc_data,test,turtle.py,turtledemo}
rm -f "$python"/lib-dynload/{_ctypes_test,_dbm,_test*,nis,xx*,_xxtestfuzz}.*
chroot "$root" /usr/bin/python3 -m compileall -q --invalidation-mode unchecked-hash /usr/lib/python3.11
find "$root/usr/share/doc" -type f ! -name copyright -delete
rm -rf "$root"/usr/share/{man,locale,info,lintian,perl5,bug,pixmaps,applications,zoneinfo/right} "$root"/usr/lib/*/gconv \
    "$root"/var/cache/* "$root"/var/lib/apt "$root"/var/log/* "$root"/usr/lib/apt
HOOK
chmod -R a+rX "$work"; chmod 755 "$work/hook"

mmdebstrap --variant=extract --mode=root --quiet --include="$wanted" \
    --aptopt='APT::Keep-Downloaded-Packages "true"' --skip=download/empty,cleanup/apt \
    --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr --extract-hook="$work/hook \"\$1\"" \
    "$suite" "$work/root.tar" "$mirror"
"$docker" import \
    --change 'ENV PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt' \
    --change 'CMD ["python3"]' "$work/root.tar" "$tag"
