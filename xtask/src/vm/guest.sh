# What the machine does, as root, once it is up. It tells the other side of the second serial line.
stty -F /dev/ttyS1 raw -echo clocal
exec >/dev/ttyS1 2>&1
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
# Tests are patient then.
export CI=vm
cd /mnt

part() { # NAME COMMAND...
    name=$1
    shift
    echo "begin $name"
    "$@" </dev/null
    status=$?
    # What it printed last may have no newline.
    echo
    echo "end $name $status"
}

echo "fact kernel $(uname -v | sed 's/.*Debian \([^ ]*\).*/\1/')"
echo "fact systemd $(systemctl --version | sed -n '1s/[^(]*(\(.*\)).*/\1/p')"
echo "fact debian $(. /etc/os-release && echo "$VERSION_CODENAME")"
echo "fact boot $(cut -d' ' -f1 /proc/uptime)"

part programs ./kernel
# One after the other: they share this host, which the package is installed on anew for each.
part job env HOLDPOINT_TEST_HERE=1 HOLDPOINT_PACKAGE=/mnt/holdpoint.deb ./packaging --test-threads=1 work:: dropins::
dpkg --install holdpoint.deb >/dev/null
part doctor holdpoint doctor --only attacks --output json
echo "done"
