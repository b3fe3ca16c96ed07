//! Where the control socket lies, and who may be there.

use std::os::unix::fs::PermissionsExt;

use mr_sip_control::{ControlError, Server, ServerConfig};

fn bind(path: &std::path::Path) -> Result<Server, ControlError> {
    let poll = mio::Poll::new().unwrap();
    Server::bind(path, poll.registry(), mio::Token(0), ServerConfig::default())
}

#[test]
fn the_socket_and_its_folder_are_the_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/mr-sip/control.sock");
    let server = bind(&path).unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    assert_eq!(mode(&path.with_extension("lock")), 0o600);
    drop(server);
    assert!(!path.exists());

    // a folder of ours by name is tightened, another one that others may write to is refused
    std::fs::set_permissions(path.parent().unwrap(), PermissionsExt::from_mode(0o777)).unwrap();
    drop(bind(&path).unwrap());
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let error = bind(&folder.path().join("a.sock")).unwrap_err().to_string();
    assert!(error.contains("others may write to it (mode 777); run: chmod go-w"), "{error}");
}

#[test]
fn a_second_daemon_is_told_of_the_first_and_a_stale_socket_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let first = bind(&path).unwrap();
    let error = bind(&path).unwrap_err().to_string();
    let pid = std::process::id();
    assert_eq!(error, format!("another mr-sip is running (pid {pid}) on {}", path.display()));
    drop(first);
    // what kill -9 leaves
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    drop(bind(&path).unwrap());
}

#[test]
fn bad_places_for_a_socket_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let long = folder.path().join("x".repeat(120));
    assert!(matches!(bind(&long), Err(ControlError::PathTooLong(_))));
    std::fs::write(folder.path().join("file"), "").unwrap();
    let error = bind(&folder.path().join("file/control.sock")).unwrap_err().to_string();
    assert!(error.contains("is not a folder"), "{error}");
    // a folder in the way of the socket
    std::fs::create_dir(folder.path().join("dir.sock")).unwrap();
    let error = bind(&folder.path().join("dir.sock")).unwrap_err().to_string();
    assert!(error.starts_with("cannot replace "), "{error}");
    // a lock that is a link to somebody's file
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link.lock")).unwrap();
    let error = bind(&folder.path().join("link.sock")).unwrap_err().to_string();
    assert!(error.starts_with("cannot open the lock "), "{error}");
}
