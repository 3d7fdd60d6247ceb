#!/usr/bin/env bash
# What tests/nat needs on a Debian machine: root, network namespaces, ip and iptables. Idempotent, seconds.
set -euo pipefail
need=()
for package in iproute2 iptables util-linux; do
  dpkg -s "$package" > /dev/null 2>&1 || need+=("$package")
done
if [ ${#need[@]} -gt 0 ]; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" > /dev/null
fi
echo "nat tests ready: $(ip -V), $(iptables -V)"
