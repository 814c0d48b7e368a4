#!/bin/sh
# System packages that some tests and the bench need. Debian 12, root. Tests whose package is missing are skipped with the reason.
set -eu
packages="python3-venv restic borgbackup acl attr libcap2-bin e2fsprogs xfsprogs strace jq qemu-utils libnbd-bin systemd logrotate poppler-utils librsvg2-bin fonts-dejavu-core exfat-fuse exfatprogs curl influxdb prometheus-pushgateway slapd ldap-utils"
missing=""
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "install ok installed" || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ]; then
    echo "error: these packages are missing and only root can install them:$missing" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing >/dev/null
