#!/usr/bin/env bash
# Runs every check of the repository, after installing what they lack. Shows each step as it runs and a table at
# the end; whole logs are under target/logs. Exit code 1 if any step failed.
#
#   scripts/test.sh              everything
#   scripts/test.sh --quick      only the Rust tests
#   scripts/test.sh --fuzz 60    everything, each fuzz test and target running for 60 seconds instead of 2 and 5
#   scripts/test.sh --no-install installs nothing; checks whose tool is missing are skipped or fail

# shellcheck disable=SC2317 # the functions that are steps are called by name
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

quick='' install=yes fuzz_seconds=''
while (($#)); do
    case $1 in
        --quick) quick=yes ;;
        --no-install) install='' ;;
        --fuzz)
            fuzz_seconds=${2:?--fuzz wants a number of seconds}
            shift
            ;;
        *)
            sed -n '2,/^\(set\|$\)/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
            [[ $1 == -h || $1 == --help ]] && exit 0
            exit 2
            ;;
    esac
    shift
done

# A full disk shows itself as a linker that dies of "Bus error"; what all steps write is measured by `du -sm target`.
disk_wanted=8000
disk_free() { df --output=avail --block-size=1M "$target_dir" | tail -n 1; }
# Every crate is built once here: what the next build could reuse is only room taken.
[[ -z ${CI:-} ]] || export CARGO_INCREMENTAL=0

began=$SECONDS
[[ -z $install ]] || "$root/scripts/install.sh" --test
use_rust || die "no Rust $rust_wanted or later: run scripts/install.sh"
cd "$root"
mkdir -p "$logs"
[[ -e $target_dir/debug/deps ]] || (($(disk_free) >= disk_wanted)) ||
    note "${yellow}careful:$plain $(disk_free) MB are free here, and the checks write up to $disk_wanted MB under $target_dir"
forget_dead_jack_servers

# A test that hangs must not hang the machine that runs it.
limited() { timeout --kill-after=10 1500 "$@"; }

table=() failed=0

# watch LOG: keeps every line of a step's output, and shows all but the tests that passed and cargo's word on each
# crate; of those it shows the count, because minutes of silence look like a hang.
watch() {
    local line crates=0
    while IFS= read -r line; do
        printf '%s\n' "$line" >>"$1"
        case $line in
            *' Compiling '* | *' Checking '* | *' Documenting '*)
                crates=$((crates + 1))
                if [[ -t 1 ]]; then
                    printf '\r\e[K    %d crates: %s' "$crates" "${line##*ing }"
                elif ((crates % 50 == 0)); then
                    note "$crates crates ..."
                fi
                continue
                ;;
            *' Downloaded '* | *' Downloading '* | *' Adding '* | 'test '*' ... ok' | 'running '*' test'* | '') continue ;;
        esac
        [[ ! -t 1 || $crates == 0 ]] || printf '\r\e[K'
        printf '    %s\n' "$line"
    done
    [[ ! -t 1 || $crates == 0 ]] || printf '\r\e[K'
}

# step NAME COMMAND...
step() {
    local name=$1 log=$logs/$1.log started=$SECONDS code=0 took
    shift
    say "$name"
    : >"$log"
    "$@" </dev/null 2>&1 | watch "$log" || code=${PIPESTATUS[0]}
    took=$(elapsed $((SECONDS - started)))
    if ((code == 0)); then
        note "${green}passed${plain} in $took"
        table+=("$(printf '%-12s %spassed%s  %7s' "$name" "$green" "$plain" "$took")")
    else
        failed=1
        ((code != 124 && code != 137)) || note 'it hung and was stopped'
        note "${red}FAILED${plain} in $took; the whole log: $log"
        table+=("$(printf '%-12s %sFAILED%s  %7s  %s' "$name" "$red" "$plain" "$took" "$log")")
    fi
}

skip() { # NAME WHY
    say "$1"
    note "${yellow}skipped${plain}: $2"
    table+=("$(printf '%-12s %sskipped%s          %s' "$1" "$yellow" "$plain" "$2")")
}

shell_scripts() {
    local file
    for file in scripts/*.sh .ci/run bindings/mindroot/e2e/run; do bash -n "$file" || return 1; done
    if command -v shellcheck >/dev/null; then
        shellcheck --external-sources scripts/*.sh .ci/run bindings/mindroot/e2e/run
    else
        echo 'shellcheck is not installed: only the syntax was read'
    fi
}

python_tests() {
    local folder
    for folder in bindings/mindroot/mr_sip asr/model; do
        echo "$folder"
        (cd "$folder" && PYTHONPATH=src limited python3 -m unittest) || return 1
    done
}

mindroot() { limited bindings/mindroot/e2e/run --daemon "$target_dir/debug/mr-sip"; }

docs() { RUSTDOCFLAGS='-D warnings' limited cargo doc --locked --workspace --no-deps; }

# The tests that run against the clock, for longer than among the Rust tests; the property tests, with more cases.
fuzz() {
    local seconds=${fuzz_seconds:-2}
    export MR_SIP_FUZZ_SECONDS=$seconds PROPTEST_CASES=$((seconds * 500))
    # of the whole workspace, because another choice of packages is another choice of features, and built anew
    limited cargo test --locked --workspace --test fuzz --test storm --test framing -- --nocapture &&
        limited cargo test --locked --workspace --lib rtp::
}

# Coverage-guided fuzzing with libFuzzer on a stable Rust: these flags are what `cargo fuzz` gives with `--sanitizer none`,
# and none of them is unstable. A target triple is named so that build scripts are built without them.
fuzz_rooms=(signaling engine bindings/control)
fuzz_host=$(rustc -vV | sed -n 's/^host: //p')
fuzz_build() {
    local flags=(--cfg=fuzzing -Cpasses=sancov-module) arguments=() room name
    for name in level=4 inline-8bit-counters pc-table trace-compares; do
        flags+=("-Cllvm-args=-sanitizer-coverage-$name")
    done
    for room in "${fuzz_rooms[@]}"; do
        name=mr-sip-${room##*/}-fuzz
        arguments+=(-p "$name" --features "$name/libfuzzer")
    done
    RUSTFLAGS="${RUSTFLAGS:-} ${flags[*]}" \
        limited cargo build --locked --target "$fuzz_host" --target-dir "$target_dir/fuzz" "${arguments[@]}"
}

# fuzz_target ROOM NAME SECONDS: runs one target from its corpus in the repository and from what was found before.
fuzz_target() {
    local room=$1 name=$2 seconds=$3 output=$logs/fuzz-$2.log code=0 corpora
    corpora=("$target_dir/fuzz/corpus/$name" "$root/$room/fuzz/corpus/$name")
    case $name in
        message | framer) corpora+=("$root/$room/tests/corpus" "$root/$room/tests/torture"/rfc*) ;;
    esac
    mkdir -p "${corpora[0]}" "$target_dir/fuzz/found"
    timeout --kill-after=10 $((seconds + 120)) "$target_dir/fuzz/$fuzz_host/debug/$name" -max_total_time="$seconds" \
        -timeout=10 -rss_limit_mb=1024 -max_len=8192 -artifact_prefix="$target_dir/fuzz/found/$name-" \
        "${corpora[@]}" >"$output" 2>&1 || code=$?
    if ((code == 0)); then
        printf '%-12s %s\n' "$name" "$(sed -n 's/^#\([0-9]*\)[[:space:]]*DONE *\(cov: [0-9]*\).*/\1 inputs, \2/p' "$output")"
    else
        grep -aE -A 3 'panicked|ERROR|Test unit written' "$output" || tail -n 20 "$output"
        printf '%-12s broke; the input is in %s, the log is %s\n' "$name" "$target_dir/fuzz/found" "$output"
        return 1
    fi
}

# As many targets at once as there are cores.
fuzz_run() {
    local seconds=${fuzz_seconds:-5} broken=$target_dir/fuzz/broken room target
    rm -f "$broken"
    for room in "${fuzz_rooms[@]}"; do
        for target in "$room"/fuzz/fuzz_targets/*.rs; do
            while (($(jobs -rp | wc -l) >= $(nproc))); do wait -n || true; done
            { fuzz_target "$room" "$(basename -- "$target" .rs)" "$seconds" || : >"$broken"; } &
        done
    done
    wait
    [[ ! -e $broken ]]
}

summary() {
    say "Summary ($(elapsed $((SECONDS - began))) in all, Rust $rust_version)"
    printf '    %s\n' "${table[@]}"
    awk '/^test result:/ { passed += $4; bad += $6; ignored += $8 }
         END { printf "    Rust tests: %d passed, %d failed, %d ignored\n", passed, bad, ignored }' "$logs/tests.log" 2>/dev/null || true
    if ((failed)); then note "${red}FAILED$plain"; else note "${green}all passed$plain"; fi
}

# In braces, so that bash has read all of it before a step changes this file (a `git pull` meanwhile).
{
    if [[ -z $quick ]]; then
        step shell shell_scripts
        if cargo fmt --version >/dev/null 2>&1; then
            step format cargo fmt --all -- --check --color never
        else
            skip format 'this Rust has no rustfmt (rustup component add rustfmt)'
        fi
        if cargo clippy --version >/dev/null 2>&1; then
            step clippy limited cargo clippy --locked --workspace --all-targets -- -D warnings
        else
            skip clippy 'this Rust has no clippy; Debian packages none for it (rustup component add clippy)'
        fi
    fi
    step build limited cargo test --locked --workspace --no-run
    step tests limited cargo test --locked --workspace --no-fail-fast
    if [[ -z $quick ]]; then
        step docs docs
        step python python_tests
        if bindings/mindroot/e2e/run --install >"$logs/mindroot-install.log" 2>&1; then
            step mindroot mindroot
        else
            skip mindroot "MindRoot could not be installed: $logs/mindroot-install.log"
        fi
        step fuzz fuzz
        step fuzz-build fuzz_build
        step fuzz-run fuzz_run
        step bench-build limited cargo build --locked --release -p mr-sip-benches --no-default-features \
            --bin tick_cost --bin quality
        step cost limited "$target_dir/release/tick_cost" --check
        if limited "$target_dir/release/quality" --install >"$logs/quality-install.log" 2>&1; then
            step quality limited "$target_dir/release/quality" --quick --check
        else
            skip quality "the judge (PyPI's pesq) could not be installed: $logs/quality-install.log"
        fi
        if cargo deny --version >/dev/null 2>&1; then
            step licences cargo deny --locked check licenses bans sources
            if cargo deny fetch >/dev/null 2>&1; then
                step advisories cargo deny --locked check advisories
            else
                skip advisories 'the advisory database could not be fetched'
            fi
        else
            skip licences 'cargo-deny is not installed (cargo install --locked cargo-deny)'
        fi
    fi
    summary
    exit "$failed"
}
