#!/usr/bin/env bash
# Shows mr_sip at work: installs what is missing, builds mr-sip, and runs `mr-sip demo`: a second telephone calls
# it, speaks, is understood and is answered. Exit code 0 only if that worked. Options go to `mr-sip demo`.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

"$root/scripts/install.sh" --demo
use_rust || die "no Rust $rust_wanted or later"

say "Building mr-sip (the first time takes some minutes: whisper.cpp is compiled too)"
started=$SECONDS
cd "$root"
cargo build --release --locked -p mr-sip </dev/null
note "built in $(elapsed $((SECONDS - started)))"

forget_dead_jack_servers
say 'mr-sip demo'
exec "$target_dir/release/mr-sip" demo "$@"
