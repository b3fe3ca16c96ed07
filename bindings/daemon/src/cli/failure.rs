//! Why a command failed: one sentence for a person, and the exit code for a script.

use std::io;

use control::ControlError;
use control::types::{ApiError, ErrorCode};
use serde_json::json;

use super::console::{Console, clean};
use crate::exit::Exit;

#[derive(Debug)]
pub(super) struct Failure {
    exit: Exit,
    /// Empty: nothing to say.
    text: String,
    code: Option<i32>,
}

impl Failure {
    pub(super) fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into(), code: None }
    }

    /// Says it, and gives the exit code.
    pub(super) fn tell(self, console: &mut Console<'_>) -> Exit {
        if self.text.is_empty() {
            return self.exit;
        }
        // when even that can't be written, the exit code is all there is
        let _ = console.note(&format!("mr-sip: {}", clean(&self.text)));
        if console.json() {
            let _ = console.json_line(&json!({"error": {"code": self.code, "message": self.text}}));
        }
        self.exit
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        let exit = match &error {
            ControlError::NotRunning(_) | ControlError::Closed => Exit::NoDaemon,
            ControlError::Api(refused) => of_refusal(refused),
            _ => Exit::Error,
        };
        let code = if let ControlError::Api(refused) = &error { Some(refused.code) } else { None };
        Self { exit, text: error.to_string(), code }
    }
}

impl From<io::Error> for Failure {
    /// Writing a result failed. `mr-sip watch | head` is no failure.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Exit::Ok, ""),
            _ => Self::new(Exit::Error, format!("cannot write: {error}")),
        }
    }
}

fn of_refusal(error: &ApiError) -> Exit {
    match error.code() {
        Some(ErrorCode::DestinationRefused) => Exit::Declined,
        Some(ErrorCode::NoSuchAccount) => Exit::Config,
        Some(ErrorCode::InvalidParams) => Exit::Usage,
        Some(ErrorCode::Media) => Exit::Media,
        _ => Exit::Error,
    }
}
