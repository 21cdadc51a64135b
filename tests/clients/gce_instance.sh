#!/bin/sh
# A Compute Engine instance in short, in namespaces of its own: DIR has what it is made of, REPOSITORY the script.
set -eu
dir=$1 repository=$2
ip link set lo up

# An /etc and a /usr/share that are written to and thrown away, but for what the script leaves in DIR/etc.
mkdir -p "$dir/etc" "$dir/work" "$dir/share" "$dir/share-work"
mount -t tmpfs tmpfs "$dir/work"
mkdir "$dir/work/upper" "$dir/work/work" "$dir/work/share" "$dir/work/share-work"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$dir/work/upper,workdir=$dir/work/work" /etc
mount -t overlay overlay -o "lowerdir=/usr/share,upperdir=$dir/work/share,workdir=$dir/work/share-work" /usr/share
rm -rf /etc/holdpoint /usr/share/holdpoint
cp -r "$dir/etc/." /etc/
mkdir -p /usr/share/holdpoint/dropins /etc/holdpoint/policies
cp "$repository"/systemd/dropins/* /usr/share/holdpoint/dropins/
cp "$repository"/policies/*.cedar /etc/holdpoint/policies/
echo "127.0.0.1 metadata.google.internal storage.googleapis.com" >/etc/hosts

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=stand-in \
    -addext subjectAltName=DNS:storage.googleapis.com -keyout "$dir/work/key.pem" -out "$dir/work/cert.pem" 2>/dev/null
python3 "$repository/tests/clients/gce_metadata.py" "$dir" "$dir/work" &
server=$!
trap 'kill $server' EXIT
while [ ! -e "$dir/work/ready" ]; do sleep 0.05; done

status=0
PATH=$dir/bin:$PATH CURL_CA_BUNDLE=$dir/work/cert.pem bash "$repository/systemd/gce-startup.sh" || status=$?
mkdir -p /etc/systemd/system
cp -r --parents /etc/holdpoint "$dir/work"
rm -rf "$dir/etc/holdpoint" "$dir/etc/systemd"
mkdir -p "$dir/etc/systemd/system"
cp -r "$dir/work/etc/holdpoint" "$dir/etc/"
for unit in /etc/systemd/system/*.service.d/holdpoint.conf; do
    [ -L "$unit" ] || continue
    mkdir -p "$dir$(dirname "$unit")"
    cp -P "$unit" "$dir$unit"
done
exit $status
