#!/bin/bash
# A start-up script for Compute Engine: installs Holdpoint, and puts it in front of the runner that the image brings.
#
#   gcloud compute instances create runner-1 ... --metadata-from-file=startup-script=gce-startup.sh,holdpoint-config=holdpoint.toml \
#       --metadata=holdpoint-package=gs://BUCKET/holdpoint_VERSION_amd64.deb,holdpoint-package-sha256=...
#
# Attributes of the instance or its project (of the project's, whoever can set them decides what runs here as root):
#   holdpoint-package          gs://BUCKET/OBJECT, read as the instance's service account, or https://...
#   holdpoint-package-sha256   its digest; nothing else is installed
#   holdpoint-config           /etc/holdpoint/holdpoint.toml
#   holdpoint-policy           optional: Cedar policies besides the shipped ones
#   holdpoint-dropins          optional: UNIT=DROP-IN, separated by spaces:
#                              actions.runner.shop.runner-1.service=github-actions-runner
#
# It runs at every boot; what is in place already it leaves. Do not let the image enable the runner's unit: it would be up before its
# drop-in is there. This script starts it.
set -euo pipefail
umask 022

metadata=http://metadata.google.internal/computeMetadata/v1
etc=/etc/holdpoint
installed=$etc/.package-sha256
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() { echo "holdpoint start-up: $1"; }
fail() {
    say "$1" >&2
    exit 1
}

# curl, quietly, again when the network is late. -q: nobody's curlrc.
get() { curl -q -sS --fail --retry 10 --retry-connrefused --retry-max-time 120 --connect-timeout 10 "$@"; }

# The value of an attribute, the instance's before the project's; status 1 where there is none, and the end where that cannot be told.
attribute() {
    local level status
    for level in instance project; do
        status=$(curl -q -sS --retry 10 --retry-connrefused --retry-max-time 120 --connect-timeout 10 \
            -H Metadata-Flavor:Google -o "$work/value" -w '%{http_code}' "$metadata/$level/attributes/$1") ||
            fail "the metadata server does not answer"
        case $status in
        200)
            cat "$work/value"
            return 0
            ;;
        404) ;;
        *) fail "the metadata server answered $status for $1" ;;
        esac
    done
    return 1
}

required() { attribute "$1" || fail "the instance has no attribute $1"; }

fetch_package() { # URL FILE
    local path object
    case $1 in
    gs://?*/?*)
        path=${1#gs://}
        object=$(printf %s "${path#*/}" | python3 -c 'import sys, urllib.parse as u; print(u.quote(sys.stdin.read(), safe=""))')
        # The token goes by a file: arguments are everybody's to read.
        (umask 077 && get -H Metadata-Flavor:Google "$metadata/instance/service-accounts/default/token" |
            python3 -c 'import json, sys; print("Authorization: Bearer " + json.load(sys.stdin)["access_token"])' >"$work/bearer")
        get -H "@$work/bearer" -o "$2" "https://storage.googleapis.com/storage/v1/b/${path%%/*}/o/$object?alt=media"
        ;;
    https://*) get --proto '=https' --proto-redir '=https' -L -o "$2" "$1" ;;
    *) fail "holdpoint-package is neither gs://BUCKET/OBJECT nor https://..." ;;
    esac
}

install_package() {
    local url digest
    url=$(required holdpoint-package)
    digest=$(required holdpoint-package-sha256)
    [[ $digest =~ ^[0-9a-f]{64}$ ]] || fail "holdpoint-package-sha256 is not 64 hexadecimal digits"
    if [ "$(cat "$installed" 2>/dev/null)" = "$digest" ]; then
        say "the package is installed already"
        return
    fi
    fetch_package "$url" "$work/holdpoint.deb"
    echo "$digest  $work/holdpoint.deb" | sha256sum --check --status ||
        fail "the package is not the one that holdpoint-package-sha256 names: nothing is installed"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q "$work/holdpoint.deb"
    echo "$digest" >"$installed"
}

# Before the package: its service starts at once, and with this.
configure() {
    mkdir -p "$etc"
    required holdpoint-config >"$work/holdpoint.toml"
    install -m 0644 "$work/holdpoint.toml" "$etc/holdpoint.toml"
}

add_policy() {
    if attribute holdpoint-policy >"$work/90-instance.cedar"; then
        cp -r "$etc/policies" "$work/policies"
        cp "$work/90-instance.cedar" "$work/policies/"
        holdpoint policy check "$work/policies"
        install -m 0644 "$work/90-instance.cedar" "$etc/policies/90-instance.cedar"
    else
        rm -f "$etc/policies/90-instance.cedar"
    fi
}

add_dropins() {
    local pairs pair unit dropin
    pairs=$(attribute holdpoint-dropins) || return 0
    for pair in $pairs; do
        unit=${pair%%=*} dropin=${pair#*=}
        [[ $unit =~ ^[A-Za-z0-9:_.@-]+\.service$ && $dropin =~ ^[a-z-]+$ ]] || fail "holdpoint-dropins: $pair is not UNIT=DROP-IN"
        [ -e "/usr/share/holdpoint/dropins/$dropin.conf" ] || fail "holdpoint-dropins: there is no drop-in $dropin"
        mkdir -p "/etc/systemd/system/$unit.d"
        ln -sf "/usr/share/holdpoint/dropins/$dropin.conf" "/etc/systemd/system/$unit.d/holdpoint.conf"
    done
    systemctl daemon-reload
}

restart_units() {
    local pairs pair
    pairs=$(attribute holdpoint-dropins) || return 0
    for pair in $pairs; do
        systemctl restart "${pair%%=*}"
    done
}

configure
install_package
add_policy
add_dropins
systemctl restart holdpoint.service
restart_units
say "done"
