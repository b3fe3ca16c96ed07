#!/usr/bin/env bash
# Installs what mr_sip needs and is not there yet, from Debian's own archive: says what and why, asks nothing,
# takes a fraction of a second when nothing is missing. As root it needs no sudo; as a user it uses sudo only if
# something is missing.
#
#   scripts/install.sh            everything: build, demo, test
#   scripts/install.sh --build    what compiling mr-sip needs
#   scripts/install.sh --demo     that, and what scripts/demo.sh runs
#   scripts/install.sh --test     that, and what scripts/test.sh runs
#   scripts/install.sh --dry-run  only says what is missing; exit code 3 if anything is
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

usage() { sed -n '2,/^\(set\|$\)/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

groups='' dry_run=''
for argument; do
    case $argument in
        --build) groups+=' build' ;;
        --demo) groups+=' build demo' ;;
        --test) groups+=' build demo test' ;;
        --all) groups+=' build demo test' ;;
        --dry-run) dry_run=yes ;;
        -h | --help)
            usage
            exit 0
            ;;
        *)
            usage >&2
            exit 2
            ;;
    esac
done
groups=${groups:- build demo test}

# group | Debian package | how to see that it is there: a command, a file, pkg:NAME for pkg-config, or py:NAME for
# a module or header of Python | what for
needs='
build | ca-certificates     | /etc/ssl/certs/ca-certificates.crt | cargo fetches the crates over TLS
build | g++                 | g++            | compiles whisper.cpp
build | cmake               | cmake          | configures whisper.cpp
build | make                | make           | drives that build
build | pkg-config          | pkg-config     | finds libjack when the jack crate is built
build | libjack-jackd2-dev  | pkg:jack       | the JACK client library
build | curl                | curl           | fetches speech models, by scripts/fetch_model.sh
demo  | jackd2              | jackd          | the sound server that calls are patched into
demo  | espeak-ng           | espeak-ng      | speaks for the caller and for the agent
demo  | baresip-core        | baresip        | a telephone of another make at the far end
test  | sip-tester          | sipp           | many calls at once, and SIP written by hand
test  | kamailio            | kamailio       | a registrar and proxy that many providers run
test  | kamailio-tls-modules | /usr/lib/x86_64-linux-gnu/kamailio/modules/tls.so | its TLS
test  | openssl             | openssl        | makes certificates, good and bad ones
test  | sox                 | sox            | reads and compares recordings
test  | valgrind            | valgrind       | counts the instructions of a media tick
test  | python3             | python3        | runs the tests of the MindRoot plugin
test  | python3-venv        | py:ensurepip   | a place for MindRoot itself, and for the judge of speech quality
test  | python3-dev         | py:Python.h    | compiles that judge
test  | shellcheck          | shellcheck     | reads the shell scripts
'

there() { # PROBE
    case $1 in
        pkg:*) command -v pkg-config >/dev/null && pkg-config --exists "${1#pkg:}" ;;
        py:*.h) [[ -s $(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))' 2>/dev/null)/${1#py:} ]] ;;
        py:*) python3 -c "import ${1#py:}" 2>/dev/null ;;
        /*) [[ -s $1 ]] ;;
        *) command -v "$1" >/dev/null || [[ -x /usr/sbin/$1 ]] ;;
    esac
}

# What apt would install for a package, or nothing. Asked only after the package lists are there.
candidate() { LC_ALL=C apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: *\([0-9].*\)/\1/p'; }

missing=() rust_missing='' rustfmt_missing=''
while IFS='|' read -r group package probe reason; do
    group=${group// /} package=${package// /} probe=${probe// /}
    [[ -n $group && " $groups " == *" $group "* ]] || continue
    there "$probe" && continue
    missing+=("$package")
    [[ ${#missing[@]} == 1 ]] && say 'Missing on this machine:'
    printf '    %-20s %s\n' "$package" "${reason# }"
done <<<"$needs"
if ! use_rust; then
    rust_missing=yes
    ((${#missing[@]})) || say 'Missing on this machine:'
    printf '    %-20s %s\n' "Rust >= $rust_wanted" 'compiles mr-sip'
elif [[ " $groups " == *' test '* && $(command -v cargo) == /usr/bin/cargo ]] && ! command -v rustfmt >/dev/null; then
    # A Rust from rustup brings its own by `rustup component add rustfmt`; Debian's is a package.
    rustfmt_missing=yes
fi

if ((${#missing[@]} == 0)) && [[ -z $rust_missing$rustfmt_missing ]]; then
    say "Everything needed (${groups# }) is there (Rust $rust_version)."
    exit 0
fi
[[ -z $dry_run ]] || exit 3

command -v apt-get >/dev/null ||
    die "this script installs Debian packages and there is no apt-get here: install what is listed above by this system's own means; Rust comes from https://rustup.rs"

as_root=()
if ((EUID != 0)); then
    command -v sudo >/dev/null ||
        die 'installing needs root, and there is no sudo: run this script once as root, then again as yourself'
    as_root=(sudo)
    if ! sudo -n true 2>/dev/null; then
        [[ -t 0 ]] || die 'sudo asks for a password and there is no terminal to ask at: run this script once as root'
        say 'sudo is needed for apt-get'
    fi
    as_root+=(env)
fi
as_root+=(DEBIAN_FRONTEND=noninteractive)
((EUID == 0)) && as_root=(env "${as_root[@]}")

# The log is in the build folder, except when the tree is somebody else's: root must leave nothing there that the
# owner cannot build over.
if ! { [[ -O $root ]] && mkdir -p "$logs" 2>/dev/null && [[ -w $logs ]]; }; then logs=$(mktemp -d); fi
log=$logs/install.log
: >"$log"
apt_failed() { tail -n 15 "$log" >&2; die "apt-get failed; the whole log is $log"; }

say 'Reading the package lists'
"${as_root[@]}" apt-get update -q </dev/null >>"$log" 2>&1 || apt_failed

if [[ -n $rust_missing ]]; then
    # Debian 12's own rustc is 1.63; its rustc-web, kept for building browsers, follows upstream.
    rust_package=''
    for suffix in -web ''; do
        version=$(candidate "rustc$suffix")
        if [[ -n $version ]] && version_at_least "${version%%[+~-]*}" "$rust_wanted"; then
            rust_package=rustc$suffix
            missing+=("rustc$suffix" "cargo$suffix")
            break
        fi
    done
    [[ -n $rust_package ]] ||
        die "this system's archive has no Rust $rust_wanted or later: install it from https://rustup.rs and run this again"
fi
if [[ " $groups " == *' test '* && -n $rust_missing$rustfmt_missing ]] && ! command -v rustfmt >/dev/null; then
    suffix=''
    { [[ -x /usr/bin/rustc ]] && dpkg-query -S /usr/bin/rustc 2>/dev/null | grep -q rustc-web; } && suffix=-web
    [[ -n $rust_missing ]] && suffix=${rust_package#rustc}
    if [[ -n $(candidate "rustfmt$suffix") ]]; then
        missing+=("rustfmt$suffix")
    fi
fi
((${#missing[@]})) || exit 0

# One line says how much is coming; then a counter, because silence of minutes looks like a hang.
plan=$(LC_ALL=C apt-get install --simulate --no-install-recommends "${missing[@]}" 2>>"$log") || {
    printf '%s\n' "$plan" >>"$log"
    apt_failed
}
total=$(grep -c '^Inst ' <<<"$plan" || true)
removed=$(sed -n 's/^Remv \([^ ]*\).*/\1/p' <<<"$plan" | tr '\n' ' ')
say "Installing ${missing[*]}; $total in all, with what they need"
[[ -z $removed ]] || note "replaced by newer ones: $removed"
done_count=0
if ! "${as_root[@]}" apt-get install -y -q --no-install-recommends \
    -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold "${missing[@]}" </dev/null 2>&1 |
    while IFS= read -r line; do
        printf '%s\n' "$line" >>"$log"
        case $line in
            'Fetched '*) note "$line" ;;
            'Setting up '*)
                done_count=$((done_count + 1))
                package=${line#Setting up } package=${package%% *}
                if [[ -t 1 ]]; then
                    printf '\r\e[K    %d/%d set up: %s' "$done_count" "$total" "$package"
                elif ((done_count % 25 == 0 || done_count == total)); then
                    note "$done_count/$total set up"
                fi
                ;;
        esac
    done; then
    apt_failed
fi
[[ ! -t 1 ]] || printf '\r\e[K'
# Debian starts a service that it installs; the tests start a Kamailio of their own, and 5060 is not to be taken by another.
if [[ " ${missing[*]} " == *' kamailio '* && -d /run/systemd/system ]]; then
    "${as_root[@]}" systemctl disable --now kamailio >>"$log" 2>&1 || note 'the service kamailio could not be switched off'
fi

hash -r
use_rust || die "Rust $rust_wanted or later was installed, and still none is found: look at $log"
say "Everything needed (${groups# }) is there (Rust $rust_version)."
