//! Looks names up off the loop: the system's resolver may block for half a minute.

use std::{net::ToSocketAddrs, sync::Arc, thread};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::{
    agent::{Resolve, ResolveId, Target},
    transport::Transport,
};

/// Names that may wait; a lookup that finds the queue full fails at once.
pub(super) const QUEUE: usize = 256;
/// So that one dead name server's timeout does not hold up every other name.
const WORKERS: usize = 2;

/// A looked-up name: no address means not found.
pub(super) type Answer = (ResolveId, Vec<Target>);

/// The worker threads. They end when this is dropped (each after the lookup it may be in; nobody waits for that).
pub(super) struct Resolver {
    questions: Sender<Resolve>,
    answers: Receiver<Answer>,
}

impl Resolver {
    /// `wake` is called after each answer.
    pub(super) fn start(wake: Arc<dyn Fn() + Send + Sync>) -> std::io::Result<Resolver> {
        let (questions, taken) = bounded::<Resolve>(QUEUE);
        let (answered, answers) = bounded::<Answer>(QUEUE);
        for i in 0..WORKERS {
            let (taken, answered, wake) = (taken.clone(), answered.clone(), wake.clone());
            thread::Builder::new().name(format!("sip-resolver-{i}")).spawn(move || {
                for question in taken {
                    if answered.send((question.id, look_up(&question))).is_err() {
                        return;
                    }
                    wake();
                }
            })?;
        }
        Ok(Resolver { questions, answers })
    }

    /// Asks; hands the question back if the queue is full.
    pub(super) fn ask(&self, question: Resolve) -> Result<(), Resolve> {
        self.questions.try_send(question).map_err(|e| match e {
            TrySendError::Full(q) | TrySendError::Disconnected(q) => q,
        })
    }

    pub(super) fn try_answer(&self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }
}

fn look_up(question: &Resolve) -> Vec<Target> {
    let transport = question.transport.unwrap_or(Transport::Udp);
    let port = question.port.unwrap_or(transport.default_port());
    match (question.host.as_str(), port).to_socket_addrs() {
        Ok(found) => found.map(|address| Target { transport, address }).collect(),
        Err(e) => {
            log::warn!("name {:?} not found: {e}", question.host);
            Vec::new()
        }
    }
}
