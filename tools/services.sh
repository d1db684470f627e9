#!/usr/bin/env bash
# Install what the tests start beside Python, as far as this machine allows: redis-server, Prometheus, nginx, Chromium,
# Azurite (the emulator of Azure Storage) and axe-core, which judges how accessible a page is. What can't be installed is said, with the
# command that would; the tests that need it then skip.
# Usage: tools/services.sh DIRECTORY (for what npm installs; the others come from the system's packages)
set -uo pipefail
readonly PLACE=${1:?a directory for what npm installs} AXE=axe-core@4.11.0
readonly AZURITE=azurite@3.35.0 # later ones need Node 21

say() { printf 'services: %s\n' "$*"; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@" 2>/dev/null; fi
}

# Install the package $1 of Debian's kind.
package() {
  # The index may be old or absent: a second try renews it.
  as_root apt-get install -y -q "$1" >/dev/null 2>&1 ||
    { as_root apt-get update -q >/dev/null 2>&1 && as_root apt-get install -y -q "$1" >/dev/null 2>&1; }
}

redis() {
  command -v redis-server >/dev/null && return
  if command -v apt-get >/dev/null; then
    package redis-server
    # The tests start their own; the one that the package starts is not wanted.
    as_root systemctl disable --now redis-server >/dev/null 2>&1 || true
  elif command -v brew >/dev/null; then
    brew install --quiet redis >/dev/null 2>&1
  fi
  command -v redis-server >/dev/null || say "no redis-server: its tests skip. To install it: sudo apt-get install redis-server"
}

prometheus() {
  command -v prometheus >/dev/null && return
  if command -v apt-get >/dev/null; then
    package prometheus
    as_root systemctl disable --now prometheus >/dev/null 2>&1 || true # as above
  elif command -v brew >/dev/null; then
    brew install --quiet prometheus >/dev/null 2>&1
  fi
  command -v prometheus >/dev/null || say "no Prometheus: its tests skip. To install it: sudo apt-get install prometheus"
}

edge() { PATH="$PATH:/usr/local/sbin:/usr/sbin" command -v nginx; }

nginx() {
  edge >/dev/null && return
  if command -v apt-get >/dev/null; then
    package nginx-light
    as_root systemctl disable --now nginx >/dev/null 2>&1 || true
  elif command -v brew >/dev/null; then
    brew install --quiet nginx >/dev/null 2>&1
  fi
  edge >/dev/null || say "no nginx: its tests skip. To install it: sudo apt-get install nginx-light"
}

browser() { command -v chromium || command -v chromium-browser || command -v google-chrome || command -v google-chrome-stable; }

chrome() {
  browser >/dev/null && return
  if command -v apt-get >/dev/null; then
    package chromium
  fi
  browser >/dev/null || say "no Chromium: its tests skip. To install it: sudo apt-get install chromium"
}

axe() {
  [ -e "$PLACE/node_modules/axe-core/axe.min.js" ] && return
  if command -v npm >/dev/null; then
    npm install --prefix "$PLACE" --no-fund --no-audit --loglevel=error "$AXE" >/dev/null 2>&1
  fi
  [ -e "$PLACE/node_modules/axe-core/axe.min.js" ] ||
    say "no axe-core: its tests skip. With Node: npm install --prefix $PLACE $AXE"
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
prometheus
nginx
chrome
azurite
axe
