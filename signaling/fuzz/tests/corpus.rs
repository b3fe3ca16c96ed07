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

/// Whole messages that others' tests are made of.
const MESSAGES: [&str; 3] = ["../tests/corpus", "../tests/torture/rfc4475", "../tests/torture/rfc5118"];

#[test]
fn message() {
    run(mr_sip_signaling_fuzz::message, &[&["corpus/message"], &MESSAGES[..]].concat());
}

#[test]
fn framer() {
    run(mr_sip_signaling_fuzz::framer, &[&["corpus/framer"], &MESSAGES[..]].concat());
}

#[test]
fn sdp() {
    run(mr_sip_signaling_fuzz::sdp, &["corpus/sdp"]);
}

#[test]
fn digest() {
    run(mr_sip_signaling_fuzz::digest, &["corpus/digest"]);
}

#[test]
fn user_agent() {
    run(mr_sip_signaling_fuzz::user_agent, &["corpus/user_agent"]);
}
