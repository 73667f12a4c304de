#!/usr/bin/env bash
# The paper's table on WFLW, as one script: every detector, three of them with synthetic faces too, on the full test
# set and its six subsets.
# prepare -> train-styles -> train-translator -> generate -> study -> report.
#
#   scripts/reproduce_wflw.sh PATH_TO_WFLW [OUT]
#
# PATH_TO_WFLW holds WFLW_images/ and WFLW_annotations/ as published (7,500 training and 2,500 test faces). OUT
# (default runs/wflw) receives everything; a stopped script continues with the same command. The table is
# OUT/study/study.md. To be set in the environment, if wished:
#   SIZE=small      narrow networks at 64 px, for two CPU cores (hours); paper: the papers' sizes, for a GPU (days)
#   SEEDS="0 1 2"   JOBS=2 (detectors trained side by side)   VAL=0.05 (share of the training faces to choose by)
#   OTHER=FOLDER    a data set of another mark-up for DVLN, made by `prepare`; not set: 2,000 drawn faces
#   VGG16, RESNET50, VGG19     SIZE=paper: files of torchvision's ImageNet weights, yours to get
#   STUDY, STYLES, TRANSLATOR  other recipes than wflw/$SIZE/study, .../styles, .../translator
#   STUDY_FLAGS, STYLES_FLAGS, TRANSLATOR_FLAGS, GENERATE_FLAGS   further flags of these commands
#
# WFLW has no split to choose by: VAL of its training faces are set apart as `val` by seed, whole pictures. The
# translator, SAN's generators and all detectors learn from what is left. `test` is opened by the study, after all
# cells are trained. A translator that does not keep its labels is refused by `generate`
# (GENERATE_FLAGS=--accept-gap goes on).
set -euo pipefail
SOURCE=${1:?usage: scripts/reproduce_wflw.sh PATH_TO_WFLW [OUT]}
OUT=${2:-runs/wflw}
SIZE=${SIZE:-small}
HERE=$(cd "$(dirname "$0")/.." && pwd)
STYLEALIGN=${STYLEALIGN:-$HERE/.venv/bin/stylealign}
STYLES=${STYLES:-wflw/$SIZE/styles}
STUDY=${STUDY:-wflw/$SIZE/study}
case $SIZE in
  small) TRANSLATOR=${TRANSLATOR:-wflw/small/translator} ;;
  paper)
    TRANSLATOR=${TRANSLATOR:-vunet_released}
    : "${VGG16:?SIZE=paper needs VGG16, the file of ImageNet weights that SAN starts from}"
    : "${RESNET50:?SIZE=paper needs RESNET50, the file of ImageNet weights that Wing starts from}"
    : "${VGG19:?SIZE=paper needs VGG19, the file of ImageNet weights that the loss of the translator looks through}"
    TRANSLATOR_FLAGS="--vgg19 $VGG19 ${TRANSLATOR_FLAGS:-}"
    ;;
  *) echo "SIZE is $SIZE, expected small or paper" >&2; exit 2 ;;
esac
mkdir -p "$OUT"
beside() {  # beside FILE NAME: the study finds it in OUT under that name
  [ -e "$1" ] || { echo "$1: no such file or folder" >&2; exit 2; }
  ln -sfn "$(cd "$(dirname "$1")" && pwd)/$(basename "$1")" "$OUT/$2"
}

# 1. What the user gives beside WFLW, the faces, and what DVLN learns beside them.
if [ -n "${OTHER:-}" ]; then beside "$OTHER" other; fi
if [ "$SIZE" = paper ]; then
  beside "$VGG16" vgg16.pth
  beside "$RESNET50" resnet50.pth
fi
if [ ! -e "$OUT/data" ]; then
  "$STYLEALIGN" prepare --reader wflw --path "$SOURCE" --out "$OUT/data" --carve "val=${VAL:-0.05}"
  "$STYLEALIGN" check "$OUT/data" --draw 24 --out "$OUT/check"
fi
if [ ! -e "$OUT/other" ]; then "$STYLEALIGN" draw-faces --out "$OUT/other" --count 2000 --seed 1; fi

# 2. What SAN looks through, and the translator with its judge's verdict.
# shellcheck disable=SC2086
"$STYLEALIGN" train-styles "$STYLES" --data "$OUT/data" --run "$OUT/styles" ${STYLES_FLAGS:-}
# shellcheck disable=SC2086
"$STYLEALIGN" train-translator "$TRANSLATOR" --data "$OUT/data" --run "$OUT/translator" ${TRANSLATOR_FLAGS:-}

# 3. Eight styles a face.
if [ ! -e "$OUT/synthetic" ]; then
  # shellcheck disable=SC2086
  "$STYLEALIGN" generate --data "$OUT/data" --translator "$OUT/translator" --out "$OUT/synthetic" \
    --styles-per-face 8 ${GENERATE_FLAGS:-}
fi

# 4. Every row of the table with every seed.
# shellcheck disable=SC2086
"$STYLEALIGN" study "$STUDY" --data "$OUT/data" --synthetic "$OUT/synthetic" --out "$OUT/study" --tests test \
  --seeds ${SEEDS:-0 1 2} --jobs "${JOBS:-2}" ${STUDY_FLAGS:-}
rm -f "$OUT/report.html"
"$STYLEALIGN" report --out "$OUT/report.html" --inputs "$OUT/study" "$OUT/synthetic" "$OUT/translator"
