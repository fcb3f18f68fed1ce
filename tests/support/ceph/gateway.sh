#!/bin/bash
# Runs in the container: one monitor, one storage daemon that keeps everything in memory, and the
# gateway in front, as the container's main process. S3 speaks on port 7480.
#
# ACCESS_KEY and SECRET_KEY are the one user's; MEMORY is how many bytes may be stored.
set -eu
umask 077
state=/ceph
keys=$state/keyring
mkdir -p $state/mon $state/osd /etc/ceph /run/ceph /var/lib/ceph /var/log/ceph
cluster=$(cat /proc/sys/kernel/random/uuid)
disk=$(cat /proc/sys/kernel/random/uuid)

cat >/etc/ceph/ceph.conf <<CONF
[global]
fsid = $cluster
keyring = $keys
mon host = [v2:127.0.0.1:3300,v1:127.0.0.1:6789]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
run dir = /run/ceph
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 2000
# The host's disk may be full: nothing is kept on it.
mon data avail crit = 1
log to file = false
log to stderr = true
err to stderr = true
debug mon = 0
debug rgw = 0
[mon]
mon data = $state/mon
keyring = $state/mon/keyring
[osd]
osd data = $state/osd
osd objectstore = memstore
memstore device bytes = ${MEMORY:-2147483648}
memstore page size = 65536
[client.rgw]
rgw frontends = beast port=7480
rgw run sync thread = false
rgw enable lc threads = false
rgw enable usage log = false
rgw enable ops log = false
# What was deleted makes room at once, not in two hours.
rgw gc obj min wait = 1
rgw gc processor period = 5
CONF

new_key() { ceph-authtool $keys --gen-key "$@" >/dev/null; }
ceph-authtool --create-keyring $keys >/dev/null
new_key -n mon. --cap mon 'allow *'
new_key -n client.admin --cap mon 'allow *' --cap osd 'allow *'
new_key -n client.rgw --cap mon 'allow rw' --cap osd 'allow rwx'
new_key -n osd.0 --cap mon 'allow profile osd' --cap osd 'allow *'
monmaptool --create --fsid "$cluster" $state/monmap \
    --addv a '[v2:127.0.0.1:3300,v1:127.0.0.1:6789]' >/dev/null
ceph-mon --mkfs -i a --monmap $state/monmap --keyring $keys
ceph-mon -i a -f &
ceph --connect-timeout 30 osd new "$disk" >/dev/null
ceph-osd -i 0 --mkfs --osd-uuid "$disk"
ceph-osd -i 0 -f &
radosgw-admin -n client.rgw user create --uid tester --display-name tester \
    --access-key "$ACCESS_KEY" --secret-key "$SECRET_KEY" >/dev/null
exec radosgw -n client.rgw -f
