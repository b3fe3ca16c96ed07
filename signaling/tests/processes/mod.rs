//! Real programs as the far end: started, waited for with a bound, and ended in any case.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use std::{
    io::Read,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// A program that is killed when the test is over.
pub struct Running {
    child: Child,
    name: &'static str,
    /// What it printed.
    said: Arc<Mutex<Vec<u8>>>,
}

impl Running {
    /// Starts it. `package` is Debian's.
    pub fn start(mut command: Command, name: &'static str, package: &str) -> Running {
        // a group of its own, so that it is ended with all that it has started
        command.process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        match command.spawn() {
            Ok(mut child) => {
                // what it prints is read, so that it never waits for us, and shown when it fails
                let said = Arc::new(Mutex::new(Vec::new()));
                let outputs: [Option<Box<dyn Read + Send>>; 2] =
                    [child.stdout.take().map(|o| Box::new(o) as _), child.stderr.take().map(|o| Box::new(o) as _)];
                for mut output in outputs.into_iter().flatten() {
                    let said = said.clone();
                    thread::spawn(move || {
                        let mut some = [0; 4096];
                        while let Ok(length @ 1..) = output.read(&mut some) {
                            said.lock().expect("no reader panics").extend_from_slice(&some[..length]);
                        }
                    });
                }
                Running { child, name, said }
            }
            Err(e) => panic!("{name} cannot be started ({e}); install Debian's package: apt install {package}"),
        }
    }

    /// Waits until it listens on a UDP port of this machine.
    #[track_caller]
    pub fn listens(&mut self, port: u16) {
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("{} ended before it listened: {status}", self.name);
            }
            if is_open(port) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("{} does not listen on port {port}", self.name);
    }

    /// The end of what it printed.
    fn said(&self) -> String {
        let said = self.said.lock().expect("no reader panics");
        String::from_utf8_lossy(&said[said.len().saturating_sub(4000)..]).into_owned()
    }

    /// Asks it to end, as SIGTERM does.
    pub fn terminate(&self) {
        let asked = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(asked.is_ok_and(|s| s.success()), "{} cannot be asked to end", self.name);
    }

    /// Waits for it to end well.
    #[track_caller]
    pub fn succeeds(&mut self, limit: Duration) {
        let until = Instant::now() + limit;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return,
                Ok(Some(status)) => panic!("{} failed: {status}; it said: {}", self.name, self.said()),
                Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(20)),
                other => panic!("{} did not end within {limit:?}: {other:?}", self.name),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that no socket has, by UDP or TCP. It lies below those that the system hands out, and this process hands out none
/// twice: whoever is started with it finds it free.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let first = 20_000 + (std::process::id() % 60) as u16 * 200;
        // with one in between: baresip takes the next port too, for TLS
        let port = first + NEXT.fetch_add(2, Relaxed) % 200;
        let address = (Ipv4Addr::LOCALHOST, port);
        if UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok() {
            return port;
        }
    }
}

/// Whether any socket has the port, as the kernel lists them.
fn is_open(port: u16) -> bool {
    let wanted = format!(":{port:04X}");
    let list = std::fs::read_to_string("/proc/net/udp").unwrap_or_default();
    list.lines().skip(1).filter_map(|l| l.split_whitespace().nth(1)).any(|local| local.ends_with(&wanted))
}
