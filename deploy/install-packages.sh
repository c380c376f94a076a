#!/bin/sh
# Installs the Debian packages a Bamikube lab needs, and only those that are missing. Services that a package brings
# (containerd, etcd) are not started: the lab runs its own, inside its nodes.
#
#   deploy/install-packages.sh            install what is missing
#   deploy/install-packages.sh --check    only say what is missing; exit status 1 if anything is
#   deploy/install-packages.sh --bench    what the benchmarks need too
set -eu

# program (or file) : package that brings it
NEEDED="
containerd:containerd
runc:runc
/usr/lib/cni/loopback:containernetworking-plugins
ip:iproute2
nft:nftables
conntrack:conntrack
etcd:etcd-server
etcdctl:etcd-client
unshare:util-linux
mount:mount
tail:coreutils
curl:curl
/etc/ssl/certs/ca-certificates.crt:ca-certificates
kubectl:kubernetes-client
"
if [ "${1:-}" = "--bench" ]; then
    NEEDED="$NEEDED wrk:wrk"
fi

missing=""
for entry in $NEEDED; do
    what=${entry%%:*}
    package=${entry#*:}
    case $what in
        /*) [ -e "$what" ] || missing="$missing $package" ;;
        *) command -v "$what" >/dev/null 2>&1 || missing="$missing $package" ;;
    esac
done
# ensurepip is what python3-venv adds; a Python from elsewhere has it already.
"${PYTHON:-python3}" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3 python3-venv"

if [ -z "$missing" ]; then
    exit 0
fi
if [ "${1:-}" = "--check" ]; then
    echo "missing packages:$missing"
    exit 1
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "install-packages: this machine has no apt-get; install by hand what Debian calls:$missing" >&2
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    echo "install-packages: needs root to install:$missing" >&2
    exit 1
fi

echo "installing Debian packages:$missing"
policy=/usr/sbin/policy-rc.d
own_policy=""
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    own_policy=yes
fi
trap '[ -z "$own_policy" ] || rm -f "$policy"' EXIT
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086
if ! apt-get install -y -qq --no-install-recommends $missing >/tmp/bamikube-apt.log 2>&1; then
    # Most often the package lists are old or were never fetched.
    apt-get update -qq
    # shellcheck disable=SC2086
    if ! apt-get install -y -qq --no-install-recommends $missing >/tmp/bamikube-apt.log 2>&1; then
        tail -n 20 /tmp/bamikube-apt.log >&2
        echo "install-packages: apt-get could not install:$missing" >&2
        exit 1
    fi
fi
rm -f /tmp/bamikube-apt.log
# Where systemd runs, the packages' own services would start at the next boot; the lab does not want them.
if [ -d /run/systemd/system ]; then
    for unit in containerd etcd; do
        case $missing in
            *$unit*) systemctl disable --quiet "$unit" 2>/dev/null || true ;;
        esac
    done
fi
