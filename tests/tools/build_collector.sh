#!/bin/sh
# Builds the small OpenTelemetry Collector that the tests send to; otelcol-small.yaml says what is in it.
# Usage: build_collector.sh DIR      leaves DIR/otelcol-small; needs Go on PATH; does nothing when it is there already.
# From an empty build cache about a minute on two idle cores. The version is the one in otelcol-small.yaml.
set -eu
dir=${1:?usage: build_collector.sh DIR}
here=$(cd "$(dirname "$0")" && pwd)
manifest=$here/otelcol-small.yaml
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
stamp=$dir/otelcol-small.stamp
if [ -x "$dir/otelcol-small" ] && cmp -s "$manifest" "$stamp"; then exit 0; fi
version=$(sed -n 's/^  version: //p' "$manifest")
work=$(mktemp -d "$dir/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
export CGO_ENABLED=0
GOBIN=$work nice go install -trimpath "go.opentelemetry.io/collector/cmd/builder@v$version"
cd "$work"
nice ./builder --skip-compilation --config "$manifest"
cd otelcol-small
nice go build -mod=mod -trimpath -ldflags='-s -w' -o "$work/binary" .
mv "$work/binary" "$dir/otelcol-small"
cp "$manifest" "$stamp"
