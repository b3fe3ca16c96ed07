//! Looks names up off the loop, on a thread of its own that waits for many answers at once: a name server that does not
//! answer holds up nobody but those who asked for its names.

use std::{io, sync::Arc, thread, time::Duration};

use crossbeam_channel::{Receiver, Sender, TrySendError};
use tokio::sync::{
    Semaphore,
    mpsc::{self, error::TrySendError as NotAsked},
};

use super::dns::{Answer, Dns, DnsConfig};
use crate::agent::{Resolve, ResolveId, Target};

/// Names that may wait, and as many may be under way; a lookup that finds the queue full fails at once.
pub(super) const QUEUE: usize = 256;
/// How long a name that was not found is taken for not there.
pub(super) const NOT_FOUND_LIFE: Duration = Duration::from_secs(30);
/// How soon an answer that found no room is tried again.
const RETRY: Duration = Duration::from_millis(5);

type Told = (ResolveId, Answer);

/// The thread. It ends when this is dropped, whatever is under way.
pub(super) struct Resolver {
    questions: mpsc::Sender<Resolve>,
    answers: Receiver<Told>,
}

impl Resolver {
    /// `wake` is called after each answer.
    pub(super) fn start(config: DnsConfig, wake: Arc<dyn Fn() + Send + Sync>) -> io::Result<Resolver> {
        let (questions, taken) = mpsc::channel(QUEUE);
        let (answered, answers) = crossbeam_channel::bounded(QUEUE);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("sip-resolver".into()).spawn(move || {
            runtime.block_on(serve(Dns::new(config), taken, answered, wake));
        })?;
        Ok(Resolver { questions, answers })
    }

    /// Asks; hands the question back if the queue is full.
    pub(super) fn ask(&self, question: Resolve) -> Result<(), Resolve> {
        self.questions.try_send(question).map_err(|e| match e {
            NotAsked::Full(question) | NotAsked::Closed(question) => question,
        })
    }

    /// The next answer: where the name's servers are, best first, and how long that holds; nowhere if it was not found.
    pub(super) fn try_answer(&self) -> Option<(ResolveId, Vec<Target>, Duration)> {
        self.answers.try_recv().ok().map(|(id, Answer { targets, life })| (id, targets, life))
    }
}

/// Takes questions until nobody can ask any more.
async fn serve(
    dns: Dns,
    mut questions: mpsc::Receiver<Resolve>,
    answers: Sender<Told>,
    wake: Arc<dyn Fn() + Send + Sync>,
) {
    let dns = Arc::new(dns);
    let places = Arc::new(Semaphore::new(QUEUE));
    while let Some(question) = questions.recv().await {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (dns, answers, wake) = (dns.clone(), answers.clone(), wake.clone());
        tokio::spawn(async move {
            let mut told = (question.id, dns.look_up(&question).await);
            while let Err(TrySendError::Full(again)) = answers.try_send(told) {
                told = again;
                tokio::time::sleep(RETRY).await;
            }
            drop(place);
            wake();
        });
    }
}
