#!/usr/bin/env bash
# Use a GPU that is there for minutes only: train, evaluate on val, leave weights, table and log, inside a time limit.
#
#   scripts/accelerator.sh MINUTES WHAT
#
# WHAT is detector (the best one at 256 px), table (rows of the published table at 256 px, as many as fit) or
# translator (spade at 128 px). Without a GPU everything is small: a try of one minute finds what would break there.
# Before it, where the data are (60 MB at most, in build/accelerator):
#   python scripts/pack_crops.py 300w=runs/300w/data ytfaces=runs/ytfaces/data \
#     --out build/accelerator
#   cp mobilenet_v2-b0353104.pth build/accelerator/imagenet.pth         if there is one: docs/detectors.md
#   pip download --no-deps -d build/accelerator/wheels tyro docstring_parser    what the other machine lacks
# To be set in the environment, if wished: PACK (build/accelerator), OUT (build/accelerator_out), PYTHON.
set -euo pipefail
MINUTES=${1:?usage: scripts/accelerator.sh MINUTES detector|table|translator}
WHAT=${2:?usage: scripts/accelerator.sh MINUTES detector|table|translator}
HERE=$(cd "$(dirname "$0")/.." && pwd)
PACK=${PACK:-$HERE/build/accelerator}
OUT=${OUT:-$HERE/build/accelerator_out}
PYTHON=${PYTHON:-$([ -x "$HERE/.venv/bin/python" ] && echo "$HERE/.venv/bin/python" || echo python3)}
export PYTHONPATH="$HERE/src${PYTHONPATH:+:$PYTHONPATH}"
if ! "$PYTHON" -c 'import tyro, cv2, lightning_fabric, safetensors, yaml, scipy, rich' 2>/dev/null; then
  ls "$PACK"/wheels/*.whl >/dev/null 2>&1 || { echo "$PYTHON lacks packages, and $PACK/wheels is empty" >&2; exit 2; }
  site=$(mktemp -d)
  "$PYTHON" -m pip install -q --no-index --no-deps --target "$site" "$PACK"/wheels/*.whl
  export PYTHONPATH="$PYTHONPATH:$site"
fi
exec "$PYTHON" "$HERE/scripts/accelerator.py" "$MINUTES" "$WHAT" --pack "$PACK" --out "$OUT"
