//! A telephone that is not ours: baresip, as the far end of the demo and of the system tests.
//!
//! It speaks a WAV file, keeps what it hears as a WAV file, and hangs up when its WAV is over.

use std::fs::{self, File};
use std::io;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where Debian's `baresip-core` keeps its modules.
const MODULES: &str = "/usr/lib/baresip/modules";

/// A running baresip with a folder of its own. Dropping it ends the process.
#[derive(Debug)]
pub struct FarEnd {
    process: Child,
    folder: PathBuf,
    sip_port: u16,
}

/// What it does with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role<'a> {
    /// Dials this URI at once.
    Calls(&'a str),
    /// Answers every call.
    Answers,
}

impl FarEnd {
    /// Starts baresip in `folder` (made if needed), speaking `speech` (WAV, 8 kHz mono).
    ///
    /// # Errors
    /// The folder cannot be written, or baresip is not installed.
    pub fn start(folder: &Path, speech: &Path, role: Role<'_>) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let sip_port = free_port()?;
        let rtp_port = free_port()? & !1;
        let here = folder.display();
        fs::write(
            folder.join("config"),
            format!(
                "poll_method epoll\n\
                 sip_listen 127.0.0.1:{sip_port}\n\
                 net_interface 127.0.0.1\n\
                 module_path {MODULES}\n\
                 module g711.so\n\
                 module aufile.so\n\
                 module sndfile.so\n\
                 module_tmp account.so\n\
                 module_app menu.so\n\
                 audio_source aufile,{}\n\
                 ausrc_srate 8000\n\
                 auplay_srate 8000\n\
                 snd_path {here}\n\
                 rtp_ports {rtp_port}-{}\n\
                 jitter_buffer_delay 2-6\n",
                speech.display(),
                rtp_port.saturating_add(8),
            ),
        )?;
        let answer_mode = if role == Role::Answers { "auto" } else { "manual" };
        fs::write(
            folder.join("accounts"),
            format!("<sip:caller@127.0.0.1:{sip_port};transport=udp>;regint=0;answermode={answer_mode}\n"),
        )?;
        fs::write(folder.join("contacts"), "")?;
        let mut command = Command::new("baresip");
        command.arg("-f").arg(folder);
        if let Role::Calls(uri) = role {
            command.arg("-e").arg(format!("/dial {uri}"));
        }
        let log = File::create(folder.join("baresip.log"))?;
        let process = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().map_err(|error| {
            match error.kind() {
                io::ErrorKind::NotFound => {
                    io::Error::new(error.kind(), "baresip is not installed; the fix: apt-get install baresip-core")
                }
                _ => error,
            }
        })?;
        Ok(Self { process, folder: folder.to_owned(), sip_port })
    }

    /// The URI under which it can be called.
    pub fn uri(&self) -> String {
        format!("sip:caller@127.0.0.1:{}", self.sip_port)
    }

    /// Waits until `done` says yes of its log, for at most `limit`.
    pub fn wait_for_log(&self, limit: Duration, done: impl Fn(&str) -> bool) -> bool {
        let start = Instant::now();
        loop {
            if done(&fs::read_to_string(self.folder.join("baresip.log")).unwrap_or_default()) {
                return true;
            }
            if start.elapsed() > limit {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it heard, 8 kHz mono: the newest of its decode dumps. `None` before its first call.
    pub fn heard(&self) -> Option<PathBuf> {
        let mut dumps: Vec<PathBuf> = fs::read_dir(&self.folder)
            .ok()?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.to_string_lossy().ends_with("-dec.wav"))
            .collect();
        dumps.sort();
        dumps.pop()
    }

    /// Asks it to stop, so that it closes its recording; after a second it is killed.
    pub fn stop(&mut self) {
        if let Ok(pid) = i32::try_from(self.process.id()) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        }
        for _ in 0..50 {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for FarEnd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A UDP port on the loopback that is free now.
///
/// # Errors
/// The system has none.
pub fn free_port() -> io::Result<u16> {
    Ok(UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Reads a mono WAV as samples in [-1, 1]. A file that was cut while being written gives what is there.
///
/// # Errors
/// It is not a 16-bit WAV.
pub fn read_wav(path: &Path) -> Result<Vec<f32>, hound::Error> {
    let mut reader = hound::WavReader::open(path)?;
    Ok(reader.samples::<i16>().map_while(Result::ok).map(|sample| f32::from(sample) / 32768.0).collect())
}
