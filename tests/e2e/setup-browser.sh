#!/usr/bin/env bash
# A browser for tests/e2e/test_docs_page.py, on a Debian machine. Idempotent, needs root, under a minute.
set -euo pipefail
for program in chromium chromium-browser google-chrome; do
  command -v "$program" > /dev/null && exit
done
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium > /dev/null
