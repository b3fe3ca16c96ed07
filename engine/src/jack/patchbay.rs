//! Which ports are connected by rule, as they appear. See [`super::rules`].

use std::collections::BTreeMap;

use jack::{AudioIn, AudioOut, Client, Error, Port, PortFlags, PortId};

use super::process::Appeared;
use super::rules::ConnectRule;

/// JACK's name for ports that carry samples.
const AUDIO: &str = "32 bit float mono audio";
/// Ports looked at in one go: a program that makes ports without end must not keep the manager from the calls.
const AT_ONCE: usize = 256;

/// What a port is called: its name first, then its aliases.
type Names = Vec<String>;

/// A call's ports, by name.
#[derive(Debug)]
pub(super) struct CallEnds {
    outputs: [Names; 2],
    input: Names,
}

impl CallEnds {
    pub(super) fn new(caller: &Port<AudioOut>, agent: &Port<AudioOut>, to_phone: &Port<AudioIn>) -> Self {
        Self { outputs: [names(caller), names(agent)], input: names(to_phone) }
    }
}

/// The rules, and the ports of calls that they may hold for.
#[derive(Debug)]
pub(super) struct Patchbay {
    rules: Vec<ConnectRule>,
    calls: BTreeMap<u64, CallEnds>,
}

impl Patchbay {
    pub(super) fn new(rules: Vec<ConnectRule>) -> Self {
        Self { rules, calls: BTreeMap::new() }
    }

    /// A call's ports are there.
    pub(super) fn call_came(&mut self, client: &Client, id: u64, ends: CallEnds) {
        for rule in &self.rules {
            let from: Vec<&Names> = ends.outputs.iter().filter(|names| rule.takes_from(each(names))).collect();
            if !from.is_empty() {
                for to in ports(client, PortFlags::IS_INPUT).filter(|names| rule.takes_to(each(names))) {
                    from.iter().for_each(|from| connect(client, from, &to));
                }
            }
            if rule.takes_to(each(&ends.input)) {
                for from in ports(client, PortFlags::IS_OUTPUT).filter(|names| rule.takes_from(each(names))) {
                    connect(client, &from, &ends.input);
                }
            }
        }
        self.calls.insert(id, ends);
    }

    /// A call's ports are gone, or go.
    pub(super) fn call_went(&mut self, id: u64) {
        self.calls.remove(&id);
    }

    /// No call has ports any more.
    pub(super) fn clear(&mut self) {
        self.calls.clear();
    }

    /// Looks at the ports that came since the last time.
    pub(super) fn look(&self, client: &Client, appeared: &Appeared) {
        for port in appeared.ports.try_iter().take(AT_ONCE) {
            self.appeared(client, port);
        }
        if appeared.missed_some() {
            log::debug!("JACK: more ports came than could be looked at; all are looked at again");
            for (flags, outputs) in [(PortFlags::IS_INPUT, false), (PortFlags::IS_OUTPUT, true)] {
                ports(client, flags).for_each(|names| self.foreign(client, &names, outputs));
            }
        }
    }

    fn appeared(&self, client: &Client, id: PortId) {
        let Some(port) = client.port_by_id(id) else { return };
        if port.port_type().is_ok_and(|kind| kind == AUDIO) {
            self.foreign(client, &names(&port), port.flags().contains(PortFlags::IS_OUTPUT));
        }
    }

    /// Connects a port to calls; those of calls were looked at as they came.
    fn foreign(&self, client: &Client, port: &Names, is_output: bool) {
        let Some(name) = port.first() else { return };
        let is_ours = |ends: &CallEnds| {
            ends.outputs.iter().chain([&ends.input]).any(|names| names.first().is_some_and(|ours| ours == name))
        };
        let hit = |rule: &&ConnectRule| {
            if is_output { rule.takes_from(each(port)) } else { rule.takes_to(each(port)) }
        };
        let mut rules = self.rules.iter().filter(hit).peekable();
        if rules.peek().is_none() || self.calls.values().any(is_ours) {
            return;
        }
        for rule in rules {
            for ends in self.calls.values() {
                if is_output && rule.takes_to(each(&ends.input)) {
                    connect(client, port, &ends.input);
                }
                for from in ends.outputs.iter().filter(|names| !is_output && rule.takes_from(each(names))) {
                    connect(client, from, port);
                }
            }
        }
    }
}

fn each(names: &Names) -> impl Iterator<Item = &str> {
    names.iter().map(String::as_str)
}

fn names<P>(port: &Port<P>) -> Names {
    let mut names: Names = port.name().into_iter().collect();
    names.extend(port.aliases().unwrap_or_default());
    names
}

/// All audio ports with these flags.
fn ports(client: &Client, flags: PortFlags) -> impl Iterator<Item = Names> {
    client
        .ports(None, Some(AUDIO), flags)
        .into_iter()
        .map(|name| client.port_by_name(&name).map_or_else(|| vec![name], |port| names(&port)))
}

fn connect(client: &Client, from: &Names, to: &Names) {
    let (Some(from), Some(to)) = (from.first(), to.first()) else { return };
    match client.connect_ports_by_name(from, to) {
        Ok(()) => log::info!("JACK: {from} is connected to {to}"),
        Err(Error::PortAlreadyConnected(..)) => {}
        // the other program may be gone already
        Err(error) => log::info!("JACK: {from} is not connected to {to}: {error}"),
    }
}
