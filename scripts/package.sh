#!/bin/sh
# Makes dist/kme-VERSION-TARGET.tar.gz from a built file and, for Linux, dist/kme_VERSION_ARCHITECTURE.deb.
#
# usage: scripts/package.sh TARGET BINARY [DIRECTORY]
#   TARGET     linux-x64, linux-arm64, windows-x64, macos-x64 or macos-arm64
#   BINARY     what `deno task compile` made for it
#   DIRECTORY  where the packages are written; dist by default
set -eu

if [ $# -lt 2 ]; then
  sed -n '3,8s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
target=$1
if [ ! -f "$2" ]; then
  echo "there is no file $2; make it with: deno task compile" >&2
  exit 2
fi
binary=$(realpath "$2")
mkdir -p "${3:-dist}"
out=$(realpath "${3:-dist}")
cd "$(dirname "$0")/.."

case $target in
  linux-x64) architecture=amd64 ;;
  linux-arm64) architecture=arm64 ;;
  windows-x64 | macos-x64 | macos-arm64) architecture= ;;
  *) echo "unknown target: $target" >&2; exit 2 ;;
esac
version=$(sed -n 's/^export const VERSION = "\(.*\)";$/\1/p' src/version.ts)
case $target in windows-*) program=kme.exe ;; *) program=kme ;; esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The same content gives the same archives.
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}"
umask 022

# What both packages hold. The program of another platform cannot be run here: the sources tell the same.
kme() { scripts/deno.sh run -A src/main.ts "$@"; }
mkdir -p "$work/doc/certs" "$work/completions"
# The documents and samples lie to each other as in the sources, so that links and paths resolve.
cp -R docs examples "$work/doc/"
rm -rf "$work/doc/examples/rust/target" "$work/doc/examples/rust/Cargo.lock" "$work/doc/examples/go/sae" "$work/doc/examples/c/sae"
cp LICENSE README.md CHANGELOG.md SECURITY.md config_kme1.json5 config_kme2.json5 "$work/doc/"
cp certs/README.md certs/network.json5 "$work/doc/certs/"
# What is about the sources only is not in the packages.
sed -i 's#\[\([^]]*\)\](\(CONTRIBUTING\.md\|tests/[^)]*\))#\1 (in the sources)#' "$work/doc/README.md"
kme help --man >"$work/kme.1"
kme completion bash >"$work/completions/kme.bash"
kme completion zsh >"$work/completions/_kme"
kme completion fish >"$work/completions/kme.fish"

archive() { # FILE DIRECTORY NAME...: a reproducible tar archive
  file=$1 directory=$2
  shift 2
  tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$directory" -cf - "$@" |
    gzip -9n >"$file"
}

name=kme-$version-$target
mkdir -p "$work/tar/$name"
install -m 0755 "$binary" "$work/tar/$name/$program"
install -m 0644 "$work/kme.1" "$work/tar/$name/"
cp -R "$work/doc/." "$work/completions" "$work/tar/$name/"
case $target in linux-*) install -m 0644 docs/kme.service "$work/tar/$name/" ;; esac
archive "$out/$name.tar.gz" "$work/tar" "$name"
echo "$out/$name.tar.gz"

[ -n "$architecture" ] || exit 0

root=$work/deb
install -D -m 0755 "$binary" "$root/usr/bin/kme"
install -d "$root/usr/lib/systemd/system" "$root/usr/share/doc/kme"
sed 's#/usr/local/bin/kme#/usr/bin/kme#; s#^Restart=on-failure#EnvironmentFile=-/etc/default/kme\n&#; 1d' \
  docs/kme.service >"$root/usr/lib/systemd/system/kme.service"
cp -R "$work/doc/." "$root/usr/share/doc/kme/"
mv "$root/usr/share/doc/kme/LICENSE" "$root/usr/share/doc/kme/copyright"
install -D -m 0644 "$work/completions/kme.bash" "$root/usr/share/bash-completion/completions/kme"
install -D -m 0644 "$work/completions/_kme" "$root/usr/share/zsh/vendor-completions/_kme"
install -D -m 0644 "$work/completions/kme.fish" "$root/usr/share/fish/vendor_completions.d/kme.fish"
install -d "$root/usr/share/man/man1"
gzip -9nc "$work/kme.1" >"$root/usr/share/man/man1/kme.1.gz"
install -D -m 0644 scripts/debian/default "$root/etc/default/kme"
find "$root" -type d -exec chmod 0755 {} +

install -d "$root/DEBIAN"
for script in postinst prerm postrm; do install -m 0755 "scripts/debian/$script" "$root/DEBIAN/$script"; done
echo /etc/default/kme >"$root/DEBIAN/conffiles"
cat >"$root/DEBIAN/control" <<END
Package: kme
Version: $version
Architecture: $architecture
Maintainer: the authors of kme <kme@invalid>
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f1)
Depends: libc6 (>= 2.34), libstdc++6, passwd
Section: net
Priority: optional
Description: key management entity for quantum key distribution
 Stores the keys of QKD devices and delivers them to applications (SAEs) over
 HTTPS with mutual TLS, as ETSI GS QKD 014 V1.1.1 describes.
END
dpkg-deb --root-owner-group -Zxz --build "$root" "$out/kme_${version}_$architecture.deb" >/dev/null
echo "$out/kme_${version}_$architecture.deb"
