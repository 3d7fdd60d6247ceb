#!/usr/bin/env bash
# Makes the container test runnable on a Debian machine that has no container registry at hand: podman and its network from Debian,
# podman-compose from PyPI, and a base image made with mmdebstrap that stands for python:3.11-slim-bookworm.
# A machine with an engine and that image is left as it is. Idempotent, needs root, about a minute.
# Usage: tests/containers/setup.sh [VENV]   where podman-compose goes (default: .venv-containers)
set -euo pipefail
venv=${1:-.venv-containers}
image=python:3.11-slim-bookworm
conf=/etc/containers/containers.conf
certificates=/etc/ssl/certs/ca-certificates.crt

need=()
for package in podman runc netavark aardvark-dns iptables uidmap mmdebstrap; do
  dpkg -s "$package" > /dev/null 2>&1 || need+=("$package")
done
if [ ${#need[@]} -gt 0 ]; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" > /dev/null
fi

if [ ! -e "$conf" ]; then
  mkdir -p "$(dirname "$conf")"
  limit=$(ulimit -Hn) # podman's own default may be more than the machine allows
  # runc: Debian 12's crun refuses hybrid cgroups. The log of events goes to a file where there is no journal.
  cat > "$conf" << END
[containers]
default_ulimits = ["nofile=$limit:$limit", "nproc=4096:4096"]
[engine]
events_logger = "file"
runtime = "runc"
END
fi

has_headers() { # as the real image has them
  podman run --rm --network none "$image" python -c \
    'import pathlib, sysconfig; assert (pathlib.Path(sysconfig.get_path("include")) / "Python.h").exists()'
}
if ! podman image exists "$image" || ! has_headers > /dev/null 2>&1; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  mmdebstrap -q --variant=minbase --include=python3,python3-venv,python3-pip,libpython3-dev,python-is-python3,ca-certificates \
    --customize-hook='rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED' \
    --customize-hook="copy-in $certificates /etc/ssl/certs" bookworm "$work/base.tar"
  podman import -q --change "ENV PIP_CERT=$certificates" --change "ENV SSL_CERT_FILE=$certificates" --change 'CMD ["python3"]' \
    "$work/base.tar" "$image" > /dev/null
fi

if [ ! -x "$venv/bin/podman-compose" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" -q install podman-compose==1.6.0
fi
echo "containers ready: $(podman --version), $("$venv/bin/podman-compose" --version 2> /dev/null | head -1)"
