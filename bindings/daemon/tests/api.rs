//! `mr-sip api`: the protocol's schema on stdout, with neither a daemon nor a configuration.

use std::io::Read as _;
use std::process::{Command, Stdio};

use control::types::{Method, PROTOCOL};
use serde_json::Value;

#[test]
fn api_prints_every_method_as_json() {
    let done = Command::new(env!("CARGO_BIN_EXE_mr-sip"))
        .arg("api")
        .env("MR_SIP_CONFIG", "/nowhere/at/all.toml")
        .env("MR_SIP_SOCKET", "/nowhere/at/all.sock")
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let schema: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(schema["protocol"], PROTOCOL);
    assert_eq!(schema["version"], env!("CARGO_PKG_VERSION"));
    for name in Method::NAMES {
        assert!(schema["methods"][name]["params"].is_object(), "{name}");
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mr-sip"))
        .arg("api")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(String::from_utf8_lossy(&done.stderr), "");
}
