# shellcheck shell=bash
# What install.sh, test.sh and demo.sh have in common: where the repository and its build output are, how
# progress is shown, and which Rust is used. Sourced, never run.
# shellcheck disable=SC2034 # what one script does not use another does

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# The oldest Rust that builds the workspace stands in one place, Cargo.toml.
rust_wanted=$(sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' "$root/Cargo.toml")
target_dir=${CARGO_TARGET_DIR:-$root/target}
# Logs of everything the scripts run; read one when a step failed.
logs=$target_dir/logs

if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
    bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' yellow=$'\e[33m' plain=$'\e[0m'
else
    bold='' green='' red='' yellow='' plain=''
fi

say() { printf '%s\n' "$bold==>$plain $*"; }
note() { printf '    %s\n' "$*"; }
die() {
    printf '%s\n' "${red}error:$plain $*" >&2
    exit 1
}

# version_at_least HAVE WANTED
version_at_least() { [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]; }

# rust_in FOLDER: prints the version of the cargo and rustc there, or fails. Both are run, because a rustup proxy
# without a toolchain behind it is there and does not work.
rust_in() {
    local version
    [[ -x $1/cargo && -x $1/rustc ]] || return 1
    (cd "$root" && "$1/cargo" --version >/dev/null 2>&1) || return 1
    version=$(cd "$root" && "$1/rustc" --version 2>/dev/null) || return 1
    version=${version#rustc }
    printf '%s\n' "${version%%[ -]*}"
}

# A machine lists at most eight JACK servers, and one that was killed keeps its place in the list. Where no jackd runs,
# the list names dead ones only, and is forgotten.
forget_dead_jack_servers() {
    local registry=/dev/shm/jack-shm-registry
    [[ -O $registry ]] || return 0
    ! grep -qsxE 'jackd|jackdbus' /proc/[0-9]*/comm || return 0
    rm -f "$registry"
}

# Puts the first Rust that is new enough at the head of PATH: the one in PATH, rustup's, or Debian's, which an
# older one installed by hand may hide. Sets rust_version; fails if there is none.
use_rust() {
    local folder
    for folder in "$(dirname -- "$(command -v cargo || echo /nowhere/cargo)")" "$HOME/.cargo/bin" /usr/local/bin /usr/bin; do
        rust_version=$(rust_in "$folder") || continue
        if version_at_least "$rust_version" "$rust_wanted"; then
            [[ $(command -v cargo) == "$folder/cargo" && $(command -v rustc) == "$folder/rustc" ]] ||
                export PATH="$folder:$PATH"
            return 0
        fi
    done
    rust_version=''
    return 1
}

# Seconds as 75s or 2m05s.
elapsed() {
    if (($1 < 100)); then printf '%ds' "$1"; else printf '%dm%02ds' $(($1 / 60)) $(($1 % 60)); fi
}
