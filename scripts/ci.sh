#!/usr/bin/env bash
# The steps of the workflows in .github/workflows, which call nothing else. Each can be run by hand as well.
#
# usage: scripts/ci.sh check                  format, lint, types, and the lock file
#        scripts/ci.sh test [PART]...         the suite; what needs a program that is not installed is ignored
#        scripts/ci.sh version TAG            fails unless TAG is "v" and the version, which CHANGELOG.md describes
#        scripts/ci.sh compile TARGET         makes dist/kme-TARGET
#        scripts/ci.sh test-binary TARGET     tests dist/kme-TARGET on its own platform
#        scripts/ci.sh assemble               packages, SBOM and SHA256SUMS of all built files in dist/
#        scripts/ci.sh publish TAG            makes the release on GitHub of what is in dist/
set -euo pipefail
cd "$(dirname "$0")/.."

deno() { scripts/deno.sh "$@"; }

version() { sed -n 's/^export const VERSION = "\(.*\)";$/\1/p' src/version.ts; }

binary_of() { case $1 in windows-*) echo "dist/kme-$1.exe" ;; *) echo "dist/kme-$1" ;; esac; }

# What CHANGELOG.md says about this version.
notes() {
  local text
  text=$(awk -v version="$(version)" '/^## /{on = index($0, "[" version "]") > 0; next} on' CHANGELOG.md)
  if [ -z "${text//[[:space:]]/}" ]; then
    echo "CHANGELOG.md says nothing about $(version)" >&2
    return 1
  fi
  printf '%s\n' "$text"
}

checksums() { if command -v sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi; }

step=${1:-}
[ $# -eq 0 ] || shift
case $step in
  check)
    deno install --frozen
    deno task check
    ;;
  test)
    CI='' deno task test "$@"
    ;;
  version)
    if [ "${1:?TAG}" != "v$(version)" ]; then
      echo "the tag is $1, but src/version.ts says $(version)" >&2
      exit 1
    fi
    notes >/dev/null
    ;;
  compile)
    deno install --frozen
    deno run -A scripts/compile.ts "${1:?TARGET}"
    ;;
  test-binary)
    KME_TEST_BINARY=$PWD/$(binary_of "${1:?TARGET}")
    export KME_TEST_BINARY
    deno test -A tests/release/binary_test.ts tests/cli/first_steps_test.ts
    ;;
  assemble)
    deno install --frozen
    for target in linux-x64 linux-arm64 windows-x64 macos-x64 macos-arm64; do
      binary=$(binary_of "$target")
      chmod +x "$binary"
      deno task package "$target" "$binary"
    done
    deno task sbom "dist/kme-$(version).cdx.json"
    rm -f dist/SHA256SUMS
    (cd dist && checksums kme* >SHA256SUMS)
    ;;
  publish)
    text=$(notes)
    gh release create "${1:?TAG}" --title "kme $(version)" --notes-file - dist/* <<<"$text"
    ;;
  *)
    sed -n '4,11s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
