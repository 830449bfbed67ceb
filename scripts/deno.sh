#!/bin/sh
# Runs Deno for the other scripts: the one that KME_DENO names, or the installed one if it has the version that README.md
# names, or else that version by Node.js.
set -eu

version=$(sed -n 's/.*npx -y deno@\([0-9.]*\) task test.*/\1/p' "$(dirname "$0")/../README.md" | sed 1q)
if [ -n "${KME_DENO:-}" ]; then exec "$KME_DENO" "$@"; fi
if [ "$(deno --version 2>/dev/null | sed -n 's/^deno \([0-9.]*\).*/\1/p')" = "$version" ]; then exec deno "$@"; fi
exec npx -y "deno@$version" "$@"
