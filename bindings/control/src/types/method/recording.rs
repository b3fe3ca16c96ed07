//! Requests about recordings.

use std::path::{Component, Path};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Done, Request, name};
use crate::types::call::CallId;

/// `record.start`: records a call from now on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecordStart {
    /// Which call.
    pub call: CallId,
    /// The file, `.wav`: one in the folder of recordings, or anywhere by a path that begins with `/`. One with a name of its
    /// own in that folder when absent. What is there already is never replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl Request for RecordStart {
    const NAME: &'static str = "record.start";
    type Reply = RecordStartReply;

    fn check(&self) -> Result<(), String> {
        let Some(path) = &self.path else { return Ok(()) };
        name("path", path)?;
        let path = Path::new(path);
        if path.components().any(|part| part == Component::ParentDir) {
            return Err("`path`: must not hold `..`".to_owned());
        }
        if path.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("wav")) {
            return Err("`path`: must end in .wav".to_owned());
        }
        Ok(())
    }
}

/// The answer to [`RecordStart`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecordStartReply {
    /// The file, as `call.recording` will name it.
    pub path: String,
}

about_call! {
    /// `record.pause`: what comes until `record.resume` is left out of the recording, and its time too.
    "record.pause" RecordPause => Done,
    /// `record.resume`: ends a pause.
    "record.resume" RecordResume => Done,
    /// `record.stop`: ends the recording; the call goes on.
    "record.stop" RecordStop => Done,
}
