#!/bin/sh
# Makes the model from nothing: corpus, training, evaluation, file, clips. See README.md for what must be installed.
#
#   asr/model/make_model.sh [minutes of training, 120]
#
# Everything that is not shipped goes to asr/model/work. A corpus that is there is used again. Set PYTHON to choose an
# interpreter, for example that of a virtual environment; set REAL to a folder for recordings of people, fetched with
# apt-get, to have the model measured on them, too.
set -eu

case "${1:-}" in
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac

here=$(cd "$(dirname "$0")" && pwd)
minutes=${1:-120}
python=${PYTHON:-python3}
work=$here/work
corpus=$work/corpus
run() { script=$1; shift; "$python" "$here/$script.py" "$@"; }

[ -e "$corpus/test-00.tsv" ] || run synthesise test --corpus "$corpus" --utterances 1200
[ -e "$corpus/demo-00.tsv" ] || run synthesise demo --corpus "$corpus" --utterances 400
[ -e "$corpus/digits-00.tsv" ] || run synthesise digits --corpus "$corpus" --utterances 2500
[ -e "$corpus/train-05.tsv" ] || run synthesise train --corpus "$corpus" --shards 6 --utterances 4000

run train "$work/model.pt" --corpus "$corpus" --minutes "$minutes"
run export "$work/model.pt" "$here/telephone-en-q8_0.bin"
run make_clips
run evaluate "$here/telephone-en-q8_0.bin" --corpus "$corpus" ${REAL:+--real "$REAL"}
cd "$here" && "$python" -m unittest
