#!/usr/bin/env bash
# Install what the tests start beside Python, as far as this machine allows: redis-server and Azurite, the emulator of
# Azure Storage. What can't be installed is said, with the command that would; the tests that need it then skip.
# Usage: tools/services.sh DIRECTORY (for Azurite; redis-server comes from the system's packages)
set -uo pipefail
readonly PLACE=${1:?a directory for Azurite} AZURITE=azurite@3.35.0 # later ones need Node 21

say() { printf 'services: %s\n' "$*"; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@" 2>/dev/null; fi
}

redis() {
  command -v redis-server >/dev/null && return
  if command -v apt-get >/dev/null; then
    # The index may be old or absent: a second try renews it.
    as_root apt-get install -y -q redis-server >/dev/null 2>&1 ||
      { as_root apt-get update -q >/dev/null 2>&1 && as_root apt-get install -y -q redis-server >/dev/null 2>&1; }
    # The tests start their own; the one that the package starts is not wanted.
    as_root systemctl disable --now redis-server >/dev/null 2>&1 || true
  elif command -v brew >/dev/null; then
    brew install --quiet redis >/dev/null 2>&1
  fi
  command -v redis-server >/dev/null || say "no redis-server: its tests skip. To install it: sudo apt-get install redis-server"
}

azurite() {
  [ -x "$PLACE/node_modules/.bin/azurite-blob" ] && return
  command -v azurite-blob >/dev/null && return
  if command -v npm >/dev/null; then
    npm install --prefix "$PLACE" --no-fund --no-audit --loglevel=error "$AZURITE" >/dev/null 2>&1
  fi
  [ -x "$PLACE/node_modules/.bin/azurite-blob" ] ||
    say "no Azurite: its tests skip. With Node 20 or later: npm install --prefix $PLACE $AZURITE"
}

mkdir -p "$PLACE"
redis
azurite
