#!/usr/bin/env bash
# Makes JACK ready for mr_sip: the packages, and the right to real-time priority and locked memory for the audio group.
# Says what is there and what it changes; sudo is used only for what is missing. It starts no server and ends none.
#
#   scripts/setup_jack.sh          sets up what is missing
#   scripts/setup_jack.sh --check  changes nothing, says what is missing; exit code 3 if anything is
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

check=''
case ${1:-} in
    '') ;;
    --check) check=yes ;;
    *)
        sed -n '2,/^\(set\|$\)/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
        [[ $1 == -h || $1 == --help ]] && exit 0
        exit 2
        ;;
esac

# Whose sound this is: not root's, when sudo was already used to get here.
user=${SUDO_USER:-$(id -un)}
limits=/etc/security/limits.d/95-mr-sip-audio.conf
missing=0

present() { note "${green}ok${plain}       $*"; }
absent() {
    missing=$((missing + 1))
    note "${yellow}missing${plain}  $*"
}

# as_root COMMAND...
as_root() {
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo >/dev/null; then
        note "sudo $*"
        sudo "$@"
    else
        die "this needs root and there is no sudo: run as root: $*"
    fi
}

# Whether a limits file gives the audio group this item (rtprio, memlock).
granted() { grep -qsE "^[[:space:]]*@audio[[:space:]]+(-|soft|hard)[[:space:]]+$1[[:space:]]" /etc/security/limits.conf /etc/security/limits.d/*.conf; }

say 'Packages'
packages=()
if command -v jackd >/dev/null && command -v jack_lsp >/dev/null; then
    present "jackd2, the sound server and its tools ($(jackd --version 2>/dev/null | sed -n 's/^jackd[a-z]* version \([0-9.]*\).*/\1/p;T;q'))"
else
    absent 'jackd2, the sound server and its tools'
    packages+=(jackd2)
fi
if [[ -n $(find /usr/lib /usr/local/lib /lib -name 'libjack.so.0' -print -quit 2>/dev/null) ]]; then
    present 'libjack, which mr-sip loads when it runs'
else
    absent 'libjack, which mr-sip loads when it runs'
    packages+=(libjack-jackd2-0)
fi
if ((${#packages[@]})) && [[ -z $check ]]; then
    command -v apt-get >/dev/null || die "install ${packages[*]} by this system's own means: there is no apt-get here"
    [[ -n $(find /var/lib/apt/lists -name '*_Packages*' -print -quit 2>/dev/null) ]] || as_root apt-get -q update
    # The package would ask whether to change limits; that is done below, where it can be seen.
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends "${packages[@]}"
fi

say 'Rights'
if [[ $user == root ]]; then
    present 'root needs no group'
elif id -nG "$user" | tr ' ' '\n' | grep -qx audio; then
    present "$user is in the group audio"
else
    absent "$user is not in the group audio"
    if [[ -z $check ]]; then
        getent group audio >/dev/null || as_root groupadd --system audio
        as_root usermod -aG audio "$user"
        relogin=yes
    fi
fi
if granted rtprio && granted memlock; then
    present 'the group audio may use real-time priority and lock memory'
else
    absent 'the group audio may not use real-time priority and lock memory'
    if [[ -z $check ]]; then
        as_root mkdir -p "$(dirname -- "$limits")"
        printf '%s\n' '# Written by mr_sip (scripts/setup_jack.sh): audio threads before all others, never paged out.' \
            '@audio - rtprio 95' '@audio - memlock unlimited' | as_root tee "$limits" >/dev/null
        note "wrote $limits"
        relogin=yes
    fi
fi
if [[ $user == "$(id -un)" && $user != root ]]; then
    priority=$(ulimit -r)
    if [[ $priority == unlimited ]] || ((priority > 0)); then
        present "this login may use real-time priority (up to $priority)"
    else
        note "this login may not use real-time priority yet: it takes effect at the next login"
    fi
fi
[[ -z ${relogin:-} ]] || note 'log out and in again for these rights to take effect'

say 'Servers'
if [[ -n ${JACK_DEFAULT_SERVER:-} ]]; then note "JACK_DEFAULT_SERVER names \"$JACK_DEFAULT_SERVER\""; fi
if command -v jack_lsp >/dev/null && JACK_NO_START_SERVER=1 jack_lsp >/dev/null 2>&1; then
    present 'a server is running for this user'
else
    note 'no server is running for this user, which mr-sip takes for "no JACK". One without a sound card:'
    note '  jackd -d dummy -r 48000 -p 256 &'
    note 'one on the first sound card:'
    note '  jackd -d alsa -d hw:0 -r 48000 -p 256 &'
fi

if [[ -z $check ]]; then
    say 'JACK is ready.'
elif ((missing)); then
    say "$missing missing. Set up by: scripts/setup_jack.sh"
    exit 3
else
    say 'Nothing is missing.'
fi
