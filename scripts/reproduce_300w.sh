#!/usr/bin/env bash
# The whole paper on 300-W, as one script:
# prepare -> train-translator -> generate -> train-detector -> evaluate -> report.
#
#   scripts/reproduce_300w.sh PATH_TO_300W [OUT]
#
# PATH_TO_300W holds afw/, helen/, lfpw/ with .pts beside the pictures. Which are train, val and test_common, and which
# are the nested lists of few labels, say scripts/lists_300w/*.txt (a picture a line), or PATH_TO_300W/splits/*.txt where
# that is there. OUT (default runs/300w) receives everything; a stopped script continues with the same command. SEEDS
# (default "0 1 2 3 4") and JOBS (detectors trained side by side, default 2) may be set. About 80 minutes on two CPU
# cores; expected: docs/results.md.
#
# Everything is chosen on `val`; `test_common` is opened once, by the last evaluation.
set -euo pipefail
SOURCE=${1:?usage: scripts/reproduce_300w.sh PATH_TO_300W [OUT]}
OUT=${2:-runs/300w}
SEEDS=${SEEDS:-0 1 2 3 4}
JOBS=${JOBS:-2}
HERE=$(cd "$(dirname "$0")/.." && pwd)
STYLEALIGN=${STYLEALIGN:-$HERE/.venv/bin/stylealign}
LISTS=$HERE/scripts/lists_300w
[ -d "$SOURCE/splits" ] && LISTS=$SOURCE/splits
mkdir -p "$OUT"

# 1. The faces. Budgets (nested lists of few labels) become subsets where they are there.
if [ ! -e "$OUT/data" ]; then
  splits=(); subsets=()
  for name in train val test_common; do splits+=("$name=$LISTS/$name.txt"); done
  for list in "$LISTS"/train_*.txt; do
    [ -e "$list" ] && subsets+=("budget_$(basename "$list" .txt | cut -d_ -f2)=$list")
  done
  "$STYLEALIGN" prepare --reader ibug --path "$SOURCE" --out "$OUT/data" \
    --splits "${splits[@]}" ${subsets[@]+--subsets "${subsets[@]}"}
  "$STYLEALIGN" check "$OUT/data" --draw 24 --out "$OUT/check"
fi

# 2. The translator, with its judge's verdict.
"$STYLEALIGN" train-translator 300w/vunet64 --data "$OUT/data" --run "$OUT/translator"

# 3. Eight styles a face.
"$STYLEALIGN" generate --data "$OUT/data" --translator "$OUT/translator" --out "$OUT/synthetic" --styles-per-face 8

# 4. The detector without and with synthetic faces: equal updates, equal batch, the same seeds.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
mkdir -p "$OUT/detectors"
export STYLEALIGN OUT
# shellcheck disable=SC2016
for seed in $SEEDS; do printf '%s\n' "real $seed" "avs $seed"; done | xargs -P "$JOBS" -L 1 sh -c '
  run=$OUT/detectors/${0}_s$1; seed=$1; set --
  if [ "$0" = avs ]; then set -- --synthetic "$OUT/synthetic" --synthetic-share 0.5; fi
  "$STYLEALIGN" train-detector 300w/resnet18_64 --real "$OUT/data" --run "$run" --loop.seed "$seed" "$@"'

# 5. On val (for choosing), then on Common, once; again where detectors were trained since, with more SEEDS.
for split in val test_common; do
  there=$OUT/evaluation_$split
  if [ -e "$there" ] && [ -n "$(find "$OUT/detectors" -name card.json -newer "$there/evaluation.json")" ]; then
    rm -r "$there"
  fi
  [ -e "$there" ] || "$STYLEALIGN" evaluate --data "$OUT/data" --split "$split" --out "$there" \
    --arms "ResNet-18=$OUT/detectors/real_s*" "AVS(ResNet-18)=$OUT/detectors/avs_s*"
done
rm -f "$OUT/report.html"
"$STYLEALIGN" report --out "$OUT/report.html" \
  --inputs "$OUT/evaluation_test_common" "$OUT/evaluation_val" "$OUT/synthetic" "$OUT/translator"
