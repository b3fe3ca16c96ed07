#!/usr/bin/env bash
# Shows that calls work through JACK on this machine: starts servers of its own (jackd on the dummy driver, so no sound
# card is needed and a running server is not touched), puts calls on them, and ends them again. Exit code 1 if anything
# failed.
#
#   scripts/test_jack.sh            the tests: ports, tones through them, a killed and a hung server, the real-time rule
#   scripts/test_jack.sh --latency  then the latency bench too (a minute more)
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

latency=''
case ${1:-} in
    '') ;;
    --latency) latency=yes ;;
    *)
        sed -n '2,/^\(set\|$\)/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
        [[ $1 == -h || $1 == --help ]] && exit 0
        exit 2
        ;;
esac

for tool in jackd jack_lsp jack_connect; do
    command -v "$tool" >/dev/null || die "$tool is not installed: run scripts/setup_jack.sh"
done
use_rust || die "no Rust $rust_wanted or later: run scripts/install.sh --build"
cd "$root"
mkdir -p "$logs"
log=$logs/test_jack.log
: >"$log"

server=mrj_script
jackd_pid=''
clean_up() {
    [[ -z $jackd_pid ]] || { kill "$jackd_pid" && wait "$jackd_pid"; } 2>/dev/null || true
}
trap clean_up EXIT

say "A server: jackd -n $server -d dummy -r 48000 -p 256"
JACK_NO_AUDIO_RESERVATION=1 jackd -n "$server" -p 64 -d dummy -r 48000 -p 256 </dev/null >>"$log" 2>&1 &
jackd_pid=$!
up=''
for _ in {1..100}; do
    if JACK_NO_START_SERVER=1 jack_lsp -s "$server" >>"$log" 2>&1; then
        up=yes
        break
    fi
    kill -0 "$jackd_pid" 2>/dev/null || break
    sleep 0.1
done
[[ -n $up ]] || die "it did not come up; what it said: $log"
if grep -q 'realtime mode' "$log" && ! grep -qi 'cannot use real-time' "$log"; then
    note "${green}up${plain}, with real-time priority"
else
    note "${yellow}up${plain}, without real-time priority (scripts/setup_jack.sh gives it)"
fi
clean_up
jackd_pid=''

say 'Building the tests'
cargo test --locked -p mr-sip-engine --test jack --test jack_ports --test jack_server --test jack_realtime --no-run >>"$log" 2>&1 ||
    die "they do not build; see $log"

failed=0 ports=()
run() { # TEST BINARY
    local line
    while IFS= read -r line; do
        printf '%s\n' "$line" >>"$log"
        case $line in
            'test '*' ... ok')
                line=${line#test }
                line=${line% ... ok}
                note "${green}ok${plain}      ${line//_/ }"
                ;;
            'test '*' ... FAILED')
                line=${line#test }
                line=${line% ... FAILED}
                note "${red}FAILED${plain}  ${line//_/ }"
                ;;
            'port: '*) ports+=("${line#port: }") ;;
        esac
    done < <(timeout --kill-after=10 900 cargo test --locked -p mr-sip-engine --test "$1" -- --test-threads 1 --show-output 2>&1 </dev/null || echo "run: failed")
    if [[ $(tail -n 1 "$log") == 'run: failed' ]]; then failed=1; fi
}
say 'Calls on servers of 8000, 44100 and 48000 Hz'
run jack
say "A call's ports, as jack_lsp showed them with caller patched to to_phone in place of agent"
for port in "${ports[@]}"; do note "$port"; done
say "Aliases, rules and clients of calls' own"
run jack_ports
say "Servers that change rate or period, freewheel, or miss periods"
run jack_server
say 'The real-time rule, counted'
run jack_realtime

if [[ -n $latency ]]; then
    say 'Latency, an impulse in by RTP, through the ports, out by RTP'
    cargo run --release --locked -p mr-sip-benches --no-default-features --bin latency -- --quick || failed=1
fi

if ((failed)); then die "see $log"; fi
say "${green}Calls work through JACK here.${plain}"
