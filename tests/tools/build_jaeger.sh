#!/bin/sh
# Builds the Jaeger that the tests send traces to: version 2, all in one, in memory, without its page.
# Usage: build_jaeger.sh DIR      leaves DIR/jaeger; needs Go on PATH; does nothing when it is there already.
# From an empty build cache some two minutes on two idle cores.
#
# Its repository is built as a dependency of a module made here, because `go install PACKAGE@VERSION` wants a line in the
# public checksum database for each of its dependencies, and for some there is none: its own go.sum has them all.
set -eu
dir=${1:?usage: build_jaeger.sh DIR}
module=github.com/jaegertracing/jaeger
version=v1.76.0
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
stamp=$dir/jaeger.stamp
if [ -x "$dir/jaeger" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$version" ]; then exit 0; fi
work=$(mktemp -d "$dir/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
source=$(go mod download -json "$module@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
go mod init build 2>/dev/null
go mod edit -require="$module@$version"
cp "$source/go.sum" go.sum
chmod u+w go.sum
CGO_ENABLED=0 nice go build -mod=mod -trimpath -ldflags='-s -w' -o "$work/binary" "$module/cmd/jaeger"
mv "$work/binary" "$dir/jaeger"
echo "$version" >"$stamp"
