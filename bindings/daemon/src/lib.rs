//! The `mr-sip` daemon and command line: where signaling, engine and ears meet.
//!
//! | room | for |
//! |---|---|
//! | [`config`] | one TOML file, and the environment names users already have |
//! | [`serve`] | `mr-sip serve`: the switchboard between the rooms and the control socket |
//! | [`demo`] | `mr-sip demo`: a whole call on this machine, judged at its end |
//! | [`cli`] | `call`, `answer`, `ps`, `watch`, `hangup`, `dtmf`: clients of the control socket |
//! | [`models_command`] | `mr-sip models`: the speech models that are there |
//! | [`doctor`] | `mr-sip doctor`: what is missing on this machine, each with its fix |
//! | [`exit`] | what the exit codes mean |

pub mod cli;
pub mod config;
pub mod config_command;
pub mod demo;
pub mod doctor;
pub mod exit;
pub mod models_command;
pub mod serve;
