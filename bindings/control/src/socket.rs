//! Where the control socket is, and that only its owner can have put it there.

use std::env;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mio::net::UnixListener;

use crate::error::ControlError;

/// The longest path that fits into `sockaddr_un` with its closing zero.
const MAX_PATH: usize = 107;

/// The socket's path: `MR_SIP_SOCKET`, else `/run/mr-sip/control.sock` for root, else
/// `$XDG_RUNTIME_DIR/mr-sip/control.sock`, else `/tmp/mr-sip-UID/control.sock`.
pub fn default_path() -> PathBuf {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let uid = nix::unistd::geteuid();
    let folder = match (set("MR_SIP_SOCKET"), uid.is_root(), set("XDG_RUNTIME_DIR")) {
        (Some(socket), _, _) => return socket,
        (None, true, _) => PathBuf::from("/run/mr-sip"),
        (None, false, Some(runtime)) => runtime.join("mr-sip"),
        (None, false, None) => PathBuf::from(format!("/tmp/mr-sip-{uid}")),
    };
    folder.join("control.sock")
}

/// A bound socket and the lock beside it (`control.lock` beside `control.sock`). Dropping it removes the socket; the lock's file stays,
/// for a lock file that is removed can be locked twice.
#[derive(Debug)]
pub(crate) struct OwnedSocket {
    pub(crate) listener: UnixListener,
    path: PathBuf,
    _lock: File,
}

impl OwnedSocket {
    /// Makes the folder (0700) if there is none, takes the lock, removes a stale socket and binds a new one (0600).
    pub(crate) fn bind(path: &Path) -> Result<Self, ControlError> {
        let error = |what, path: &Path| {
            let path = path.to_owned();
            move |source| ControlError::Socket { what, path, source }
        };
        if path.as_os_str().len() > MAX_PATH {
            return Err(ControlError::PathTooLong(path.to_owned()));
        }
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        prepare_folder(folder)?;
        let lock = take_lock(path)?;
        match fs::remove_file(path) {
            Ok(()) => log::info!("removed the stale socket {}", path.display()),
            Err(missing) if missing.kind() == ErrorKind::NotFound => {}
            Err(other) => return Err(error("cannot replace", path)(other)),
        }
        let listener = UnixListener::bind(path).map_err(error("cannot listen on", path))?;
        // nobody gets through between the two: the folder is ours alone, and accept() looks at the peer's uid as well
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(error("cannot protect", path))?;
        Ok(Self { listener, path: path.to_owned(), _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for OwnedSocket {
    fn drop(&mut self) {
        // still under the lock: it can only be ours
        let _ = fs::remove_file(&self.path);
    }
}

fn prepare_folder(folder: &Path) -> Result<(), ControlError> {
    let error = |what| move |source| ControlError::Socket { what, path: folder.to_owned(), source };
    let unsafe_folder = |why: String| ControlError::UnsafeFolder { folder: folder.to_owned(), why };
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(error("cannot make the parent of"))?;
    }
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => return Ok(()),
        Err(there) if there.kind() == ErrorKind::AlreadyExists => {}
        Err(other) => return Err(error("cannot make")(other)),
    }
    let meta = fs::metadata(folder).map_err(error("cannot look at"))?;
    if !meta.is_dir() {
        return Err(unsafe_folder("it is not a folder".into()));
    }
    let uid = nix::unistd::geteuid().as_raw();
    let is_link = fs::symlink_metadata(folder).is_ok_and(|link| link.file_type().is_symlink());
    let named_for_us = folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("mr-sip"));
    if meta.uid() == uid && named_for_us && !is_link {
        return fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(error("cannot protect"));
    }
    if meta.uid() != uid && meta.uid() != 0 {
        return Err(unsafe_folder(format!(
            "it belongs to user {}, not to user {uid}; remove it or choose another place with MR_SIP_SOCKET",
            meta.uid()
        )));
    }
    let others_write = meta.mode() & 0o022 != 0;
    let sticky = meta.mode() & 0o1000 != 0;
    if others_write && !sticky {
        return Err(unsafe_folder(format!(
            "others may write to it (mode {:03o}); run: chmod go-w {}",
            meta.mode() & 0o777,
            folder.display()
        )));
    }
    Ok(())
}

fn take_lock(socket: &Path) -> Result<File, ControlError> {
    let path = socket.with_extension("lock");
    let error = |what| {
        let path = path.clone();
        move |source| ControlError::Socket { what, path, source }
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(&path)
        .map_err(error("cannot open the lock"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.take(16).read_to_string(&mut pid);
            let pid = pid.trim().parse::<u32>().map_or_else(|_| "unknown".to_owned(), |pid| pid.to_string());
            return Err(ControlError::AlreadyRunning { pid, socket: socket.to_owned() });
        }
        Err(TryLockError::Error(other)) => return Err(error("cannot lock")(other)),
    }
    let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(error("cannot write the lock"))?;
    Ok(file)
}
