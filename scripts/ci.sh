#!/usr/bin/env bash
# The steps of the workflows in .github/workflows, which call nothing else. Each can be run by hand as well.
#
# usage: scripts/ci.sh check                  format, lint, types, and the lock file
#        scripts/ci.sh test [PART]...         the suite; what needs a program that is not installed is ignored
#        scripts/ci.sh version TAG            fails unless TAG is "v" and the program's version
#        scripts/ci.sh compile TARGET         makes dist/kme-TARGET
#        scripts/ci.sh test-binary TARGET     tests dist/kme-TARGET on its own platform
#        scripts/ci.sh assemble               packages, SBOM and SHA256SUMS of all built files in dist/
#        scripts/ci.sh publish TAG            makes the release on GitHub of what is in dist/
set -euo pipefail
cd "$(dirname "$0")/.."

# Node.js is enough: it is on every runner. KME_DENO names a Deno that is installed already.
deno_version=$(sed -n 's/.*npx -y deno@\([0-9.]*\) task test.*/\1/p' README.md | head -n 1)
deno() {
  if [ -n "${KME_DENO:-}" ]; then "$KME_DENO" "$@"; else npx -y "deno@$deno_version" "$@"; fi
}

version() { sed -n 's/^export const VERSION = "\(.*\)";$/\1/p' src/version.ts; }

binary_of() { case $1 in windows-*) echo "dist/kme-$1.exe" ;; *) echo "dist/kme-$1" ;; esac; }

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
    awk -v version="$(version)" '/^## /{on = index($0, "[" version "]") > 0; next} on' CHANGELOG.md |
      gh release create "${1:?TAG}" --title "kme $(version)" --notes-file - dist/*
    ;;
  *)
    sed -n '4,11s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
