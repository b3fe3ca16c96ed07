#!/usr/bin/env bash
# Downloads a Whisper model of the whisper.cpp project (ggerganov/whisper.cpp on Hugging Face) into the models folder.
#
#   scripts/fetch_model.sh NAME [FOLDER]
#
# NAME is tiny, tiny.en, base, base.en, small, small.en, medium, medium.en, large-v3, large-v3-turbo, ..., also with
# -q5_0, -q5_1 or -q8_0 behind it where the project has that. FOLDER is $MR_SIP_MODELS, or else
# ~/.local/share/mr-sip/models, where mr-sip looks. MR_SIP_MODEL_URL replaces the address up to the file's name.
#
# What is half there is continued. The file gets its name only when it is whole; its checksum is printed.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

usage() { sed -n '2,/^\(set\|$\)/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

case ${1:-} in
    -h | --help)
        usage
        exit 0
        ;;
    '' | -*)
        usage >&2
        exit 2
        ;;
esac
name=${1#ggml-}
name=${name%.bin}
[[ $name =~ ^[A-Za-z0-9._-]+$ ]] || die "\"$1\" is no model's name; see $0 --help"
folder=${2:-${MR_SIP_MODELS:-${XDG_DATA_HOME:-$HOME/.local/share}/mr-sip/models}}
prefix=${MR_SIP_MODEL_URL:-https://huggingface.co/ggerganov/whisper.cpp/resolve/main}
file=ggml-$name.bin
url=${prefix%/}/$file
part=$folder/$file.part

# A ggml file begins with the number 0x67676d6c, the least byte first.
is_model() { [[ $(head -c 4 -- "$1" 2>/dev/null) == lmgg ]]; }

show() {
    local sum
    sum=$(sha256sum -- "$1")
    note "$(stat -c %s -- "$1") bytes, sha256 ${sum%% *}"
}

if is_model "$folder/$file"; then
    say "$folder/$file is there already"
    show "$folder/$file"
    exit 0
fi
mkdir -p -- "$folder" || die "can't make the folder $folder"

say "downloading $url"
if command -v curl >/dev/null; then
    progress=--no-progress-meter
    if [[ -t 2 ]]; then progress=--progress-bar; fi
    fetch=(curl --fail --location "$progress" --retry 3 --connect-timeout 20 --continue-at - --output "$part" "$url")
elif command -v wget >/dev/null; then
    fetch=(wget --no-verbose --tries=3 --timeout=20 --continue --output-document="$part" "$url")
    if [[ -t 2 ]]; then fetch[1]=--show-progress; fi
else
    die "neither curl nor wget is installed: apt-get install curl"
fi
# a server that can't go on in the middle (curl: 33) is asked for the whole
"${fetch[@]}" || { (($? == 33)) && rm -f -- "$part" && "${fetch[@]}"; } || {
    [[ -s $part ]] || rm -f -- "$part"
    die "could not download $file from $prefix: is the name right, and is there a network? What came is kept, run again to go on"
}
if ! is_model "$part"; then
    rm -f -- "$part"
    die "what $url gave is no Whisper model"
fi
mv -- "$part" "$folder/$file"
say "$folder/$file"
show "$folder/$file"
note "use it: WHISPER_MODEL=$name mr-sip serve"
