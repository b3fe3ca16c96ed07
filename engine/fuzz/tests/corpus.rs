//! Every file of the corpora, through the same functions that the fuzz targets run.

use std::path::Path;

/// Runs a target over the files of some folders of this crate.
fn run(target: fn(&[u8]), folders: &[&str]) {
    for folder in folders {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let files = std::fs::read_dir(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let files: Vec<_> = files.map(|entry| entry.expect("a file").path()).filter(|path| path.is_file()).collect();
        assert!(!files.is_empty(), "nothing in {folder}");
        for file in files {
            // shown only when the test fails: which file it was
            println!("{}", file.display());
            target(&std::fs::read(&file).expect("a file that can be read"));
        }
    }
}

#[test]
fn rtp() {
    run(mr_sip_engine_fuzz::rtp, &["corpus/rtp"]);
}

#[test]
fn rtcp() {
    run(mr_sip_engine_fuzz::rtcp, &["corpus/rtcp"]);
}

#[test]
fn srtp() {
    run(mr_sip_engine_fuzz::srtp, &["corpus/srtp"]);
}

#[test]
fn call() {
    run(mr_sip_engine_fuzz::call, &["corpus/call"]);
}
